package main

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"math"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// readExpfmt gives the decoder of Prometheus's Go library, which everything written in Go reads with: the Pushgateway, Telegraf,
// Grafana's Alloy, Datadog's agent. Any UTF-8 may stand in a name.
func readExpfmt(of format) reader {
	kind := map[format]expfmt.FormatType{
		text:        expfmt.TypeTextPlain,
		openMetrics: expfmt.TypeOpenMetrics,
		protobuf:    expfmt.TypeProtoDelim,
	}[of]
	format := expfmt.NewFormat(kind).WithEscapingScheme(model.NoEscaping)
	return func(_ string, body []byte) *reading {
		seen := newReading()
		decoder := expfmt.NewDecoder(bytes.NewReader(body), format)
		for {
			family := &dto.MetricFamily{}
			err := decoder.Decode(family)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				seen.refuse(err)
				break
			}
			seen.addFamily(family)
		}
		// Of text it gives the families in any order.
		slices.SortStableFunc(seen.Samples, func(a, b sample) int { return cmp.Compare(a.Name, b.Name) })
		return seen
	}
}

// addFamily adds its metadata, and each of its metrics as the series that Prometheus makes of it.
func (r *reading) addFamily(from *dto.MetricFamily) {
	own := r.family(from.GetName())
	own.Help, own.Unit = from.GetHelp(), from.GetUnit()
	own.Type = map[dto.MetricType]string{
		dto.MetricType_COUNTER:         "counter",
		dto.MetricType_GAUGE:           "gauge",
		dto.MetricType_SUMMARY:         "summary",
		dto.MetricType_UNTYPED:         unknownType,
		dto.MetricType_HISTOGRAM:       "histogram",
		dto.MetricType_GAUGE_HISTOGRAM: "gaugehistogram",
	}[from.GetType()]
	for _, metric := range from.Metric {
		r.addMetric(series{name: from.GetName(), kind: own.Type, metric: metric, to: r})
	}
}

// series writes the parts of a metric.
type series struct {
	name, kind string
	metric     *dto.Metric
	start      *timestamppb.Timestamp
	to         *reading
}

func (s series) add(suffix string, value float64, exemplars ...*dto.Exemplar) *sample {
	read := sample{
		Name:        s.name + suffix,
		Labels:      pairs(s.metric.Label),
		Value:       number(value),
		TimestampMs: s.metric.TimestampMs,
		Type:        s.kind,
		Exemplars:   []exemplar{},
		StartMs:     milliseconds(s.start),
	}
	for _, from := range exemplars {
		if from != nil {
			read.Exemplars = append(read.Exemplars, exemplar{
				Labels: pairs(from.Label), Value: number(from.GetValue()), TimestampMs: milliseconds(from.Timestamp),
			})
		}
	}
	s.to.Samples = append(s.to.Samples, read)
	return &s.to.Samples[len(s.to.Samples)-1]
}

func (r *reading) addMetric(to series) {
	metric := to.metric
	// As its ExtractSamples does, it leaves out what is not of the family's type.
	switch {
	case to.kind == "counter" && metric.Counter != nil:
		to.start = metric.Counter.CreatedTimestamp
		to.add("", metric.Counter.GetValue(), metric.Counter.Exemplar)
	case to.kind == "gauge" && metric.Gauge != nil:
		to.add("", metric.Gauge.GetValue())
	case to.kind == unknownType && metric.Untyped != nil:
		to.add("", metric.Untyped.GetValue())
	case to.kind == "summary" && metric.Summary != nil:
		to.start = metric.Summary.CreatedTimestamp
		to.addSummary(metric.Summary)
	case strings.HasSuffix(to.kind, "histogram") && metric.Histogram != nil:
		to.start = metric.Histogram.CreatedTimestamp
		to.addNative(metric.Histogram)
		to.addClassic(metric.Histogram)
	}
}

func (s series) addSummary(from *dto.Summary) {
	for _, quantile := range from.Quantile {
		s.add("", quantile.GetValue()).Labels["quantile"] = bound(quantile.GetQuantile())
	}
	s.add("_sum", from.GetSampleSum())
	s.add("_count", float64(from.GetSampleCount()))
}

func (s series) addClassic(from *dto.Histogram) {
	count := cmp.Or(from.GetSampleCountFloat(), float64(from.GetSampleCount()))
	isEnded := false
	for _, bucket := range from.Bucket {
		value := cmp.Or(bucket.GetCumulativeCountFloat(), float64(bucket.GetCumulativeCount()))
		s.add("_bucket", value, bucket.Exemplar).Labels["le"] = bound(bucket.GetUpperBound())
		isEnded = isEnded || math.IsInf(bucket.GetUpperBound(), 1)
	}
	if !isEnded {
		s.add("_bucket", count).Labels["le"] = "+Inf"
	}
	s.add("_sum", from.GetSampleSum())
	s.add("_count", count)
}

// addNative adds the native histogram, if the message holds one: it then has a span, though it be empty.
func (s series) addNative(from *dto.Histogram) {
	if len(from.PositiveSpan)+len(from.NegativeSpan) == 0 && from.GetZeroThreshold() == 0 && from.GetZeroCount() == 0 {
		return
	}
	native := &histogram.FloatHistogram{
		Schema:          from.GetSchema(),
		Count:           cmp.Or(from.GetSampleCountFloat(), float64(from.GetSampleCount())),
		Sum:             from.GetSampleSum(),
		ZeroThreshold:   from.GetZeroThreshold(),
		ZeroCount:       cmp.Or(from.GetZeroCountFloat(), float64(from.GetZeroCount())),
		PositiveSpans:   spans(from.PositiveSpan),
		NegativeSpans:   spans(from.NegativeSpan),
		PositiveBuckets: counts(from.PositiveCount, from.PositiveDelta),
		NegativeBuckets: counts(from.NegativeCount, from.NegativeDelta),
	}
	read := s.add("", 0, from.Exemplars...)
	read.Value = ""
	// It is the writer's to say buckets that fit the spans, and String would run over them.
	if err := native.Validate(); err != nil {
		read.Histogram = "invalid: " + err.Error()
		return
	}
	read.Histogram = native.String()
}

func spans(from []*dto.BucketSpan) []histogram.Span {
	var all []histogram.Span
	for _, span := range from {
		all = append(all, histogram.Span{Offset: span.GetOffset(), Length: span.GetLength()})
	}
	return all
}

// counts gives those of the buckets: each as it is, or as its difference to the one before.
func counts(floats []float64, deltas []int64) []float64 {
	if len(floats) > 0 {
		return floats
	}
	var all []float64
	total := int64(0)
	for _, delta := range deltas {
		total += delta
		all = append(all, float64(total))
	}
	return all
}

func pairs(from []*dto.LabelPair) map[string]string {
	all := map[string]string{}
	for _, pair := range from {
		all[pair.GetName()] = pair.GetValue()
	}
	return all
}

func milliseconds(from *timestamppb.Timestamp) *int64 {
	if from == nil {
		return nil
	}
	at := from.AsTime().UnixMilli()
	return &at
}
