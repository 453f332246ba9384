package main

import (
	"fmt"
	"strings"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/protoparser/prometheus"
)

// readVictoriaMetrics reads text and OpenMetrics alike, as VictoriaMetrics does. It leaves out the lines that it does not read,
// and goes on; here they are an error, since each is a sample that somebody loses.
func readVictoriaMetrics(_ string, body []byte) *reading {
	seen := newReading()
	var refused []string
	rows, metadata := prometheus.UnmarshalWithMetadata(
		prometheus.Rows{}, prometheus.MetadataRows{}, string(body), func(why string) { refused = append(refused, why) })
	for _, row := range metadata.Rows {
		*seen.family(row.Metric) = family{Type: victoriaType(row.Type), Help: row.Help}
	}
	for _, row := range rows.Rows {
		read := sample{
			Name:      row.Metric,
			Labels:    map[string]string{},
			Value:     number(row.Value),
			Type:      seen.typeOf(row.Metric),
			Exemplars: []exemplar{},
		}
		for _, tag := range row.Tags {
			if _, twice := read.Labels[tag.Key]; twice {
				refused = append(refused, fmt.Sprintf("the label %q twice in %s", tag.Key, row.Metric))
			}
			read.Labels[tag.Key] = tag.Value
		}
		// It knows no time 0: that is the time of the scrape.
		if row.Timestamp != 0 {
			read.TimestampMs = copied(&row.Timestamp)
		}
		seen.Samples = append(seen.Samples, read)
	}
	if len(refused) > 0 {
		seen.refuse(fmt.Errorf("%d lines are refused, first: %s", len(refused), refused[0]))
	}
	return seen
}

// typeOf gives the type of the family that a sample belongs to by its name.
func (r *reading) typeOf(name string) string {
	if family := r.Families[name]; family != nil {
		return family.Type
	}
	if at := strings.LastIndexByte(name, '_'); at > 0 {
		if family := r.Families[name[:at]]; family != nil && isPartOf(name, name[:at], family.Type) {
			return family.Type
		}
	}
	return unknownType
}

// victoriaType is its word for a type, spelled as everybody else does: it says "gauge histogram".
func victoriaType(of prompb.MetricType) string {
	return strings.ReplaceAll(of.String(), " ", "")
}
