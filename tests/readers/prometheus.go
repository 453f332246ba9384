package main

import (
	"errors"
	"fmt"
	"io"

	commonmodel "github.com/prometheus/common/model"
	promexemplar "github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

// The settings of a scrape that change what is read.
var (
	// As a scrape is configured if nothing is said: native histograms are ignored.
	asItComes = textparse.ParserOptions{IgnoreNativeHistograms: true}
	// `scrape_native_histograms` and `always_scrape_classic_histograms`, and start times as `created-timestamp-zero-ingestion` has
	// them: whatever can be seen of a body.
	withNativeHistograms = textparse.ParserOptions{
		KeepClassicOnClassicAndNativeHistograms: true,
		OpenMetricsSkipSTSeries:                 true,
	}
	// `convert_classic_histograms_to_nhcb`.
	withCustomBuckets = textparse.ParserOptions{
		IgnoreNativeHistograms:         true,
		ConvertClassicHistogramsToNHCB: true,
	}
)

// readPrometheus gives Prometheus's own reader, which goes through a body as its scrape loop does (scrape/scrape.go) and
// refuses what costs the whole scrape there: in the parser, in the loop, and on the way into the head.
func readPrometheus(options textparse.ParserOptions) reader {
	options.FallbackContentType = "text/plain"
	return func(contentType string, body []byte) *reading {
		seen := newReading()
		if len(body) == 0 {
			return seen
		}
		parser, err := textparse.New(body, contentType, labels.NewSymbolTable(), options)
		if parser == nil || err != nil {
			seen.refuse(err)
			return seen
		}
		if err := seen.scrape(parser, options.OpenMetricsSkipSTSeries); err != nil {
			seen.refuse(err)
		}
		return seen
	}
}

func (r *reading) scrape(parser textparse.Parser, withStart bool) error {
	current := ""
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch entry {
		case textparse.EntryType:
			name, kind := parser.Type()
			current = string(name)
			r.family(current).Type = string(kind)
		case textparse.EntryHelp:
			name, help := parser.Help()
			current = string(name)
			r.family(current).Help = string(help)
		case textparse.EntryUnit:
			name, unit := parser.Unit()
			current = string(name)
			r.family(current).Unit = string(unit)
		case textparse.EntrySeries, textparse.EntryHistogram:
			read, err := readEntry(parser, entry, withStart)
			if err != nil {
				return err
			}
			// As the scrape loop does, a sample takes the metadata that came last, if it is of its family.
			if family := r.Families[current]; family != nil && isPartOf(read.Name, current, family.Type) {
				read.Type = family.Type
			}
			r.Samples = append(r.Samples, read)
		}
	}
}

func readEntry(parser textparse.Parser, entry textparse.Entry, withStart bool) (sample, error) {
	read := sample{Type: unknownType}
	if entry == textparse.EntryHistogram {
		_, timestamp, integers, floats := parser.Histogram()
		var err error
		switch {
		case integers != nil:
			read.Histogram, err = integers.String(), integers.Validate()
		case floats != nil:
			read.Histogram, err = floats.String(), floats.Validate()
		default:
			err = errors.New("a histogram that is none")
		}
		if err != nil {
			return read, err
		}
		read.TimestampMs = copied(timestamp)
	} else {
		_, timestamp, value := parser.Series()
		read.Value, read.TimestampMs = number(value), copied(timestamp)
	}
	var own labels.Labels
	parser.Labels(&own)
	// A label without a value is none: the scrape loop drops it.
	own = labels.NewBuilder(own).Labels()
	if err := check(own); err != nil {
		return read, err
	}
	read.Name, read.Labels = own.Get(labels.MetricName), withoutName(own)
	// Who asks the parser of OpenMetrics for it takes the `_created` samples away from himself.
	if withStart {
		if start := parser.StartTimestamp(); start != 0 {
			read.StartMs = &start
		}
	}
	read.Exemplars = []exemplar{}
	for next := (promexemplar.Exemplar{}); parser.Exemplar(&next); next = (promexemplar.Exemplar{}) {
		found := exemplar{Labels: withoutName(next.Labels), Value: number(next.Value)}
		if next.HasTs {
			found.TimestampMs = copied(&next.Ts)
		}
		read.Exemplars = append(read.Exemplars, found)
	}
	return read, nil
}

// check refuses the labels that the scrape loop and the head refuse.
func check(own labels.Labels) error {
	if !own.Has(labels.MetricName) {
		return errors.New("missing metric name (__name__ label)")
	}
	if !own.IsValid(commonmodel.UTF8Validation) {
		return fmt.Errorf("invalid metric name or label names: %s", own)
	}
	if name, twice := own.HasDuplicateLabelNames(); twice {
		return fmt.Errorf("label name %q is not unique", name)
	}
	return nil
}

func withoutName(of labels.Labels) map[string]string {
	others := of.Map()
	delete(others, labels.MetricName)
	return others
}

// copied is for what the parser reuses.
func copied(timestamp *int64) *int64 {
	if timestamp == nil {
		return nil
	}
	own := *timestamp
	return &own
}
