package main

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/value"
)

// reading is what one reader sees of a body: what stands before the fault, if there is one.
type reading struct {
	Error    *string            `json:"error"`
	Samples  []sample           `json:"samples"`
	Families map[string]*family `json:"families"`
}

// sample has a value or a native histogram. The type is that of its family, "unknown" where nothing says it.
type sample struct {
	Name        string            `json:"name"`
	Labels      map[string]string `json:"labels"`
	Value       string            `json:"value,omitempty"`
	Histogram   string            `json:"histogram,omitempty"`
	TimestampMs *int64            `json:"timestamp_ms"`
	StartMs     *int64            `json:"start_ms"`
	Type        string            `json:"type"`
	Exemplars   []exemplar        `json:"exemplars"`
}

type exemplar struct {
	Labels      map[string]string `json:"labels"`
	Value       string            `json:"value"`
	TimestampMs *int64            `json:"timestamp_ms"`
}

type family struct {
	Type string `json:"type"`
	Help string `json:"help"`
	Unit string `json:"unit"`
}

const unknownType = "unknown"

func newReading() *reading {
	return &reading{Samples: []sample{}, Families: map[string]*family{}}
}

// refuse keeps why the body is not read.
func (r *reading) refuse(why error) {
	text := why.Error()
	r.Error = &text
}

// family gives the one of this name.
func (r *reading) family(name string) *family {
	if r.Families[name] == nil {
		r.Families[name] = &family{Type: unknownType}
	}
	return r.Families[name]
}

// number is the shortest text of a value: "NaN", "+Inf" and "-Inf" for those that have no digits, and "StaleNaN" for the NaN by
// which Prometheus marks the end of a series.
func number(of float64) string {
	if value.IsStaleNaN(of) {
		return "StaleNaN"
	}
	return strconv.FormatFloat(of, 'g', -1, 64)
}

// bound is a number as OpenMetrics asks for it in `le` and `quantile`, and as Prometheus's parser writes it there.
func bound(of float64) string {
	text := number(of)
	if math.IsInf(of, 0) || math.IsNaN(of) || strings.ContainsAny(text, "e.") {
		return text
	}
	return text + ".0"
}

// suffixes are those that the samples of a type have behind the family's name: isSeriesPartOfFamily in Prometheus's
// scrape/scrape.go.
var suffixes = map[string][]string{
	"counter":        {"", "_total"},
	"histogram":      {"", "_bucket", "_sum", "_count"},
	"gaugehistogram": {"", "_bucket", "_gsum", "_gcount"},
	"summary":        {"", "_sum", "_count"},
	"info":           {"", "_info"},
}

// isPartOf says whether a sample of this name is one of the family's.
func isPartOf(name, familyName, familyType string) bool {
	suffix, begins := strings.CutPrefix(name, familyName)
	if !begins {
		return false
	}
	parts, known := suffixes[familyType]
	if !known {
		return suffix == ""
	}
	return slices.Contains(parts, suffix)
}
