// Readers reads exposition bodies as real scrapers do: with the parsers of Prometheus, of its Go library and of
// VictoriaMetrics. README.md beside this file says what goes in and what comes out.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"os"
)

// request is a line of the input.
type request struct {
	ContentType string `json:"content_type"`
	Body        []byte `json:"body"`
}

// format is what the media type says of a body, which chooses the parser.
type format int

const (
	text format = iota
	openMetrics
	protobuf
)

// reader reads a body; what it does not read is in the reading, as its error.
type reader func(contentType string, body []byte) *reading

// readers gives those that read the format, by name.
func readers(of format) map[string]reader {
	all := map[string]reader{
		"prometheus":        readPrometheus(asItComes),
		"prometheus_native": readPrometheus(withNativeHistograms),
		"prometheus_nhcb":   readPrometheus(withCustomBuckets),
		"expfmt":            readExpfmt(of),
	}
	if of != protobuf {
		all["victoriametrics"] = readVictoriaMetrics
	}
	return all
}

func formatOf(contentType string) (format, error) {
	mediaType, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return text, err
	}
	switch mediaType {
	case "text/plain":
		return text, nil
	case "application/openmetrics-text":
		return openMetrics, nil
	case "application/vnd.google.protobuf":
		return protobuf, nil
	default:
		return text, fmt.Errorf("nobody reads the media type %q", mediaType)
	}
}

// read gives what each reader sees.
func read(line []byte) (map[string]*reading, error) {
	var asked request
	if err := json.Unmarshal(line, &asked); err != nil {
		return nil, fmt.Errorf("a request that is none: %w", err)
	}
	of, err := formatOf(asked.ContentType)
	if err != nil {
		return nil, err
	}
	readings := map[string]*reading{}
	for name, reader := range readers(of) {
		readings[name] = guarded(reader, asked)
	}
	return readings, nil
}

// guarded takes a panic for what it is to a scraper: a body that cannot be read.
func guarded(reader reader, asked request) (seen *reading) {
	defer func() {
		if cause := recover(); cause != nil {
			seen = newReading()
			seen.refuse(fmt.Errorf("panic: %v", cause))
		}
	}()
	return reader(asked.ContentType, asked.Body)
}

func run(in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	answers := json.NewEncoder(out)
	answers.SetEscapeHTML(false)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			return nil
		}
		if err != nil && err != io.EOF {
			return err
		}
		readings, err := read(line)
		if err != nil {
			return err
		}
		if err := answers.Encode(readings); err != nil {
			return err
		}
	}
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "readers:", err)
		os.Exit(1)
	}
}
