// An application in a real pod: it counts while it lives, and says how far it came when it was asked to end, and at its end.
//
// It takes its port and its certificate from the flags of KServe's and vLLM's servers and of llm-d's proxy, and passes over all others. Of its
// environment it takes durations, as Go spells them, and numbers:
//
//	DRAIN    how long it lives on after SIGTERM, counting: five seconds, unless said
//	END      after how long it ends by itself, if it does
//	BODY     how many bytes its metrics have, besides its count
//	HOLD     how many MiB of memory it takes when /hold is asked for
//	BURN     how many threads it keeps busy
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const interval = 50 * time.Millisecond

// flag gives the value of the last of these flags, which may stand behind it or behind an equals sign. KServe starts vLLM by a
// script for bash: this program is bash there, and takes the flags out of the script.
func flag(missing string, names ...string) string {
	value := missing
	words := strings.Fields(strings.Join(os.Args, " "))
	for i, word := range words {
		for _, name := range names {
			if rest, found := strings.CutPrefix(word, name+"="); found {
				value = rest
			} else if word == name && i+1 < len(words) {
				value = words[i+1]
			}
		}
	}
	return value
}

func duration(name string, missing time.Duration) time.Duration {
	value, err := time.ParseDuration(os.Getenv(name))
	if err != nil {
		return missing
	}
	return value
}

func number(name string) int {
	value, _ := strconv.Atoi(os.Getenv(name))
	return value
}

func padding(size int) []byte {
	var body bytes.Buffer
	body.WriteString("# TYPE padding gauge\n")
	for i := 0; body.Len() < size; i++ {
		fmt.Fprintf(&body, "padding{of=\"app\",number=\"%d\"} %d\n", i, i)
	}
	return body.Bytes()
}

var held [][]byte

func hold(mebibytes int) {
	for range mebibytes {
		block := make([]byte, 1<<20)
		for i := range block {
			block[i] = 1
		}
		held = append(held, block)
	}
}

func main() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)

	var count atomic.Int64
	go func() {
		for range time.Tick(interval) {
			count.Add(1)
		}
	}()

	for range number("BURN") {
		go func() {
			for {
			}
		}()
	}
	more := padding(number("BODY"))
	http.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		body := bufio.NewWriter(w)
		fmt.Fprintf(body, "# TYPE worked_total counter\nworked_total %d\n", count.Load())
		body.Write(more)
		body.Flush()
	})
	http.HandleFunc("/hold", func(http.ResponseWriter, *http.Request) { hold(number("HOLD")) })
	http.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})

	address := ":" + flag("8080", "--port", "--http_port")
	certificate, key := flag("", "--ssl-certfile"), flag("", "--ssl-keyfile")
	if folder := flag("", "--cert-path"); folder != "" {
		certificate, key = folder+"/tls.crt", folder+"/tls.key"
	}
	go func() {
		if certificate != "" {
			panic(http.ListenAndServeTLS(address, certificate, key, nil))
		}
		panic(http.ListenAndServe(address, nil))
	}()

	if end := duration("END", 0); end > 0 {
		time.Sleep(end)
	} else {
		<-ended
		fmt.Printf("asked to end at %d\n", count.Load())
		time.Sleep(duration("DRAIN", 5*time.Second))
	}
	fmt.Printf("counted %d\n", count.Load())
}
