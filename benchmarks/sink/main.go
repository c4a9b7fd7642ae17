// Command sink is an OTLP/gRPC logs endpoint that only counts: records, distinct events, and the time from event to arrival.
//
// It walks the wire format instead of decoding it, so that on a machine with two cores it does not become the thing measured.
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"sort"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // registers the compressor that clients use
	"google.golang.org/protobuf/encoding/protowire"
)

const maxMessageBytes = 64 << 20

type raw []byte

type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) { return v.(raw), nil }

func (rawCodec) Unmarshal(data []byte, v any) error {
	p := v.(*raw)
	*p = append((*p)[:0], data...)
	return nil
}

func (rawCodec) Name() string { return "proto" }

// sink holds what has arrived. Field numbers are those of the OTLP logs protocol.
type sink struct {
	mu         sync.Mutex
	requests   int64
	records    int64
	bytes      int64
	resources  int64
	latencies  []float64 // seconds
	seen       map[uint64]int
	keepSeen   bool
	first      time.Time
	last       time.Time
	holdBefore time.Duration
}

func (s *sink) export(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var request raw
	if err := decode(&request); err != nil {
		return nil, err
	}
	if s.holdBefore > 0 {
		time.Sleep(s.holdBefore)
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.requests == 0 {
		s.first = now
	}
	s.last = now
	s.requests++
	s.bytes += int64(len(request))
	each(request, 1, func(resourceLogs []byte) {
		s.resources++
		each(resourceLogs, 2, func(scopeLogs []byte) {
			each(scopeLogs, 2, func(record []byte) { s.note(record, now) })
		})
	})
	return raw(nil), nil
}

func (s *sink) note(record []byte, now time.Time) {
	s.records++
	for len(record) > 0 {
		number, kind, n := protowire.ConsumeTag(record)
		if n < 0 {
			log.Fatal("a log record that does not parse")
		}
		body := record[n:]
		size := protowire.ConsumeFieldValue(number, kind, body)
		if size < 0 {
			log.Fatal("a log record that does not parse")
		}
		switch {
		case number == 1 && kind == protowire.Fixed64Type:
			event := int64(binary.LittleEndian.Uint64(body))
			s.latencies = append(s.latencies, float64(now.UnixNano()-event)/1e9)
		case number == 6 && s.keepSeen:
			s.noteSequence(body)
		}
		record = body[size:]
	}
}

// noteSequence remembers the value of process.pid, which the generator makes different for each event.
func (s *sink) noteSequence(field []byte) {
	const key = "\x0a\x0bprocess.pid\x12"
	attribute, _ := protowire.ConsumeBytes(field)
	if len(attribute) < len(key)+3 || string(attribute[:len(key)]) != key {
		return
	}
	value, _ := protowire.ConsumeBytes(attribute[len(key):])
	if number, _, n := protowire.ConsumeTag(value); number == 3 {
		pid, _ := protowire.ConsumeVarint(value[n:])
		s.seen[pid]++
	}
}

func each(message []byte, wanted protowire.Number, visit func([]byte)) {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			log.Fatal("a request that does not parse")
		}
		size := protowire.ConsumeFieldValue(number, kind, message[n:])
		if size < 0 {
			log.Fatal("a request that does not parse")
		}
		if number == wanted && kind == protowire.BytesType {
			body, _ := protowire.ConsumeBytes(message[n:])
			visit(body)
		}
		message = message[n+size:]
	}
}

func (s *sink) report() map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	sort.Float64s(s.latencies)
	at := func(q float64) float64 {
		if len(s.latencies) == 0 {
			return 0
		}
		return s.latencies[min(len(s.latencies)-1, int(q*float64(len(s.latencies))))]
	}
	duplicates := 0
	for _, n := range s.seen {
		duplicates += n - 1
	}
	return map[string]any{
		"requests": s.requests, "records": s.records, "bytes": s.bytes, "resource_logs": s.resources,
		"distinct": len(s.seen), "duplicates": duplicates,
		"p50": at(0.50), "p99": at(0.99), "p999": at(0.999), "seconds": s.last.Sub(s.first).Seconds(),
	}
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to serve on")
	distinct := flag.Bool("distinct", false, "count distinct events by their process.pid")
	hold := flag.Duration("hold", 0, "time to wait before each answer")
	flag.Parse()

	s := &sink{seen: map[uint64]int{}, keepSeen: *distinct, holdBefore: *hold}
	server := grpc.NewServer(grpc.ForceServerCodec(rawCodec{}), grpc.MaxRecvMsgSize(maxMessageBytes))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "opentelemetry.proto.collector.logs.v1.LogsService",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Export", Handler: s.export}},
	}, s)
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		if err := server.Serve(listener); err != nil {
			log.Fatal(err)
		}
	}()
	say(map[string]any{"endpoint": listener.Addr().String()})

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGTERM, syscall.SIGINT)
	for received := range signals { // SIGUSR1 asks how things stand; the others end it
		say(s.report())
		if received != syscall.SIGUSR1 {
			return
		}
	}
}

func say(facts map[string]any) {
	line, err := json.Marshal(facts)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(line))
}
