// Command gobridge is a yardstick: the bridge that one would write in Go in an afternoon, for `make bench`.
//
// It reads KubeArmor's streams with generated stubs, makes each event a log record, and exports batches of 512 records or
// 200 ms over OTLP/gRPC with gzip. It holds nothing on disk, keeps no ledger, and does not come back from a lost stream.
//
// The stubs in feeder/ are made from ../proto/kubearmor.proto, with protoc-gen-go of the module's protobuf on PATH.
package main

//go:generate ../../.venv/bin/python -m grpc_tools.protoc -I../../proto --go_out=.. --go_opt=module=otelbridge.invalid/benchmarks --go_opt=Mkubearmor.proto=otelbridge.invalid/benchmarks/gobridge/feeder ../../proto/kubearmor.proto

import (
	"context"
	"log"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	collectorlogs "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	logs "go.opentelemetry.io/proto/slim/otlp/logs/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"

	"otelbridge.invalid/benchmarks/gobridge/feeder"
)

const (
	maxBatchRecords = 512
	maxBatchWait    = 200 * time.Millisecond
	maxWaiting      = 4096 // converted records before the batch; when it is full the reader waits
	maxExports      = 4    // requests under way at once
	exportTimeout   = 10 * time.Second
	exportMethod    = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
)

// convert makes a record of each message that a stream brings, until the stream ends.
func convert[E any](stream grpc.ClientStream, toRecord func(*E) record, records chan<- record) error {
	for {
		event := new(E)
		if err := stream.RecvMsg(event); err != nil {
			return err
		}
		records <- toRecord(event)
	}
}

// watch subscribes to one stream of KubeArmor's LogService.
func watch(ctx context.Context, upstream *grpc.ClientConn, method, filter string) (grpc.ClientStream, error) {
	stream, err := upstream.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/feeder.LogService/"+method)
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(&feeder.RequestMessage{Filter: filter}); err != nil {
		return nil, err
	}
	return stream, stream.CloseSend()
}

// batch collects records and hands them on when there are enough, or when the first of them has waited long enough.
func batch(records <-chan record, export func([]record)) {
	timer := time.NewTimer(maxBatchWait)
	timer.Stop()
	var waiting []record
	flush := func() {
		timer.Stop()
		if len(waiting) > 0 {
			export(waiting)
			waiting = nil
		}
	}
	for {
		select {
		case r, open := <-records:
			if !open {
				flush()
				return
			}
			if len(waiting) == 0 {
				timer.Reset(maxBatchWait)
			}
			if waiting = append(waiting, r); len(waiting) == maxBatchRecords {
				flush()
			}
		case <-timer.C:
			flush()
		}
	}
}

// request groups a batch by what the records are about.
func request(batch []record) *collectorlogs.ExportLogsServiceRequest {
	groups := make(map[origin]*logs.ScopeLogs)
	exported := &collectorlogs.ExportLogsServiceRequest{}
	for _, r := range batch {
		group := groups[r.origin]
		if group == nil {
			group = &logs.ScopeLogs{}
			groups[r.origin] = group
			exported.ResourceLogs = append(exported.ResourceLogs,
				&logs.ResourceLogs{Resource: r.origin.resource(), ScopeLogs: []*logs.ScopeLogs{group}})
		}
		group.LogRecords = append(group.LogRecords, r.log)
	}
	return exported
}

func connect(address string, options ...grpc.DialOption) *grpc.ClientConn {
	connection, err := grpc.NewClient(address,
		append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		log.Fatal(err)
	}
	return connection
}

func main() {
	if len(os.Args) != 3 {
		log.Fatalf("usage: %s UPSTREAM ENDPOINT, both HOST:PORT", os.Args[0])
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	upstream := connect(os.Args[1])
	defer upstream.Close()
	endpoint := connect(os.Args[2], grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name)))
	defer endpoint.Close()

	records := make(chan record, maxWaiting)
	var readers sync.WaitGroup
	read := func(method, filter string, converted func(grpc.ClientStream) error) {
		stream, err := watch(ctx, upstream, method, filter)
		if err != nil {
			log.Fatalf("%s: %v", method, err)
		}
		readers.Go(func() {
			if err := converted(stream); ctx.Err() == nil {
				log.Fatalf("%s: %v", method, err)
			}
		})
	}
	read("WatchAlerts", "policy", func(s grpc.ClientStream) error { return convert(s, alertRecord, records) })
	read("WatchLogs", "system", func(s grpc.ClientStream) error { return convert(s, logRecord, records) })
	go func() {
		readers.Wait()
		close(records)
	}()

	var exports sync.WaitGroup
	slots := make(chan struct{}, maxExports)
	batch(records, func(full []record) {
		slots <- struct{}{}
		exports.Go(func() {
			defer func() { <-slots }()
			call, cancel := context.WithTimeout(context.Background(), exportTimeout)
			defer cancel()
			var answer collectorlogs.ExportLogsServiceResponse
			if err := endpoint.Invoke(call, exportMethod, request(full), &answer); err != nil {
				log.Printf("%d records lost: %v", len(full), err)
			}
		})
	})
	exports.Wait()
}
