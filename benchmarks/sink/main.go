// Command sink is an OTLP endpoint, gRPC and HTTP, that only counts: records, distinct events, bytes, and the time
// from event to arrival.
//
// It walks the wire format instead of decoding it, so that on a machine with two cores it does not become the thing
// measured. Lines on stdin ask it (`counts`, `latency`) or tell it (`clear`, `refuse`, `accept`); the end of stdin ends it.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
)

func main() {
	grpcAddress := flag.String("grpc", "127.0.0.1:0", "address of OTLP/gRPC")
	httpAddress := flag.String("http", "127.0.0.1:0", "address of OTLP/HTTP")
	flag.Parse()

	t := newTally()
	grpcListener, err := serveGRPC(*grpcAddress, t)
	if err != nil {
		log.Fatal(err)
	}
	httpListener, err := serveHTTP(*httpAddress, t)
	if err != nil {
		log.Fatal(err)
	}
	say(map[string]any{
		"grpc": "http://" + grpcListener.Addr().String(), "http": "http://" + httpListener.Addr().String() + logsPath,
	})

	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		switch lines.Text() {
		case "counts":
			say(t.counts())
		case "latency":
			say(t.quantiles())
		case "clear":
			t.clear()
			say(map[string]any{})
		case "refuse", "accept":
			t.refusing.Store(lines.Text() == "refuse")
			say(map[string]any{})
		default:
			log.Fatalf("%q: not counts, latency, clear, refuse or accept", lines.Text())
		}
	}
}

// say prints one JSON line for the harness.
func say(facts map[string]any) {
	line, err := json.Marshal(facts)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(line))
}
