package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// tally holds what has arrived since the start, and the latencies since the last clear.
type tally struct {
	refusing atomic.Bool

	mu         sync.Mutex
	requests   int64
	records    int64
	bytes      int64
	wireBytes  int64 // headers and messages of the requests as they came, compressed or not
	resources  int64
	distinct   int64 // events that have come at least once
	duplicates int64
	seen       []uint64 // one bit per event number
	latencies  map[string][]time.Duration
}

func newTally() *tally { return &tally{latencies: map[string][]time.Duration{}} }

// addWire counts what a request took on the wire.
func (t *tally) addWire(size int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wireBytes += int64(size)
}

// add counts one request. Field numbers are those of the OTLP logs protocol.
func (t *tally) add(request []byte) error {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests++
	t.bytes += int64(len(request))
	return each(request, 1, func(resourceLogs []byte) error {
		t.resources++
		return each(resourceLogs, 2, func(scopeLogs []byte) error {
			return each(scopeLogs, 2, func(record []byte) error { return t.note(record, now) })
		})
	})
}

// alertEvents is how the names of alerts' events begin; those of KubeArmor's telemetry, the logs, begin otherwise.
var alertEvents = []byte("kubearmor.alert")

func (t *tally) note(record []byte, now time.Time) error {
	t.records++
	stream, latency := "logs", time.Duration(-1)
	for len(record) > 0 {
		number, kind, n := protowire.ConsumeTag(record)
		if n < 0 {
			return protowire.ParseError(n)
		}
		body := record[n:]
		size := protowire.ConsumeFieldValue(number, kind, body)
		if size < 0 {
			return protowire.ParseError(size)
		}
		switch {
		case number == 1 && kind == protowire.Fixed64Type:
			latency = now.Sub(time.Unix(0, int64(binary.LittleEndian.Uint64(body))))
		case number == 6 && kind == protowire.BytesType:
			t.noteNumber(body)
		case number == 12 && kind == protowire.BytesType:
			if name, _ := protowire.ConsumeBytes(body); bytes.HasPrefix(name, alertEvents) {
				stream = "alerts"
			}
		}
		record = body[size:]
	}
	if latency >= 0 {
		t.latencies[stream] = append(t.latencies[stream], latency)
	}
	return nil
}

// numberKey is the attribute that the generator makes the event's number.
const numberKey = "process.pid"

// noteNumber marks an event as seen. An attribute has its key first or its value: encoders differ.
func (t *tally) noteNumber(field []byte) {
	attribute, _ := protowire.ConsumeBytes(field)
	found := false
	var value []byte
	for len(attribute) > 0 {
		number, kind, n := protowire.ConsumeTag(attribute)
		if n < 0 || kind != protowire.BytesType {
			return
		}
		part, size := protowire.ConsumeBytes(attribute[n:])
		if size < 0 {
			return
		}
		switch number {
		case 1:
			if string(part) != numberKey {
				return
			}
			found = true
		case 2:
			value = part
		}
		attribute = attribute[n+size:]
	}
	if number, _, n := protowire.ConsumeTag(value); found && number == 3 && n > 0 {
		event, _ := protowire.ConsumeVarint(value[n:])
		t.mark(event)
	}
}

func (t *tally) mark(event uint64) {
	word, bit := event/64, uint64(1)<<(event%64)
	for uint64(len(t.seen)) <= word {
		t.seen = append(t.seen, 0)
	}
	if t.seen[word]&bit == 0 {
		t.distinct++
	} else {
		t.duplicates++
	}
	t.seen[word] |= bit
}

func (t *tally) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.latencies)
}

func (t *tally) counts() map[string]any {
	t.mu.Lock()
	defer t.mu.Unlock()
	return map[string]any{
		"requests": t.requests, "records": t.records, "bytes": t.bytes, "wire_bytes": t.wireBytes, "resource_logs": t.resources,
		"distinct": t.distinct, "duplicates": t.duplicates,
	}
}

// quantiles are in seconds, of all records and of each stream's; there are none before a record with a time has come.
func (t *tally) quantiles() map[string]any {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []time.Duration
	streams := map[string]any{}
	for stream, latencies := range t.latencies {
		all = append(all, latencies...)
		streams[stream] = quantilesOf(latencies)
	}
	answer := quantilesOf(all)
	answer["streams"] = streams
	return answer
}

func quantilesOf(latencies []time.Duration) map[string]any {
	slices.Sort(latencies)
	answer := map[string]any{"records": len(latencies)}
	for name, q := range map[string]float64{"p50": 0.50, "p99": 0.99, "p999": 0.999, "most": 1} {
		if n := len(latencies); n > 0 {
			answer[name] = latencies[min(n-1, int(q*float64(n)))].Seconds()
		}
	}
	return answer
}

// each visits every field of a message that has a number and holds a message itself.
func each(message []byte, wanted protowire.Number, visit func([]byte) error) error {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return fmt.Errorf("tag: %w", protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(number, kind, message[n:])
		if size < 0 {
			return fmt.Errorf("field %d: %w", number, protowire.ParseError(size))
		}
		if number == wanted && kind == protowire.BytesType {
			body, _ := protowire.ConsumeBytes(message[n:])
			if err := visit(body); err != nil {
				return err
			}
		}
		message = message[n+size:]
	}
	return nil
}
