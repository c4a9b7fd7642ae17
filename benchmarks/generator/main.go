// Command generator is a KubeArmor that is no bottleneck: a LogService on grpc-go with the upstream's manners, fed from a
// file of encoded events, for `make bench`.
//
// The manners are those that a client can feel: one DATA frame per message, 1,000 slots per subscriber that overflow
// without a word, server pings, and grpc-go's default policy against clients that ping too often.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// The field numbers that Alert and Log share, as wire tags.
const (
	tagTimestamp   = 1<<3 | 0
	tagUpdatedTime = 2<<3 | 2
	tagHostPID     = 9<<3 | 0
)

const updatedTimeLayout = "2006-01-02T15:04:05.000000Z"

// raw is a message that is its own encoding.
type raw []byte

// rawCodec hands bytes through; the generator never looks into what it sends.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) {
	b, ok := v.(raw)
	if !ok {
		return nil, fmt.Errorf("not raw bytes: %T", v)
	}
	return b, nil
}

func (rawCodec) Unmarshal(data []byte, v any) error {
	p, ok := v.(*raw)
	if !ok {
		return fmt.Errorf("not raw bytes: %T", v)
	}
	*p = append((*p)[:0], data...)
	return nil
}

func (rawCodec) Name() string { return "proto" }

// subscriber has the slots that KubeArmor gives each client and stream.
type subscriber struct{ slots chan raw }

type server struct {
	mu          sync.Mutex
	subscribers map[string]map[*subscriber]struct{}
	slots       int

	published, sent, dropped, fullest atomic.Int64
}

func (s *server) watch(stream string) grpc.StreamHandler {
	return func(_ any, ss grpc.ServerStream) error {
		var request raw
		if err := ss.RecvMsg(&request); err != nil {
			return err
		}
		me := &subscriber{slots: make(chan raw, s.slots)}
		s.mu.Lock()
		if s.subscribers[stream] == nil {
			s.subscribers[stream] = map[*subscriber]struct{}{}
		}
		s.subscribers[stream][me] = struct{}{}
		s.mu.Unlock()
		defer func() {
			s.mu.Lock()
			delete(s.subscribers[stream], me)
			s.mu.Unlock()
		}()
		for {
			select {
			case <-ss.Context().Done():
				return ss.Context().Err()
			case event := <-me.slots:
				if err := ss.SendMsg(event); err != nil {
					return err
				}
				s.sent.Add(1)
			}
		}
	}
}

func (s *server) healthCheck(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var nonce raw
	if err := decode(&nonce); err != nil {
		return nil, err
	}
	return nonce, nil // NonceMessage.nonce and ReplyMessage.Retval are both field 1, int32: the echo is the answer
}

// publish puts an event into each subscriber's slots, or drops it for those that are full, as KubeArmor does.
func (s *server) publish(stream string, event raw) {
	s.mu.Lock()
	for sub := range s.subscribers[stream] {
		select {
		case sub.slots <- event:
			if n := int64(len(sub.slots)); n > s.fullest.Load() {
				s.fullest.Store(n)
			}
		default:
			s.dropped.Add(1)
		}
	}
	s.mu.Unlock()
	s.published.Add(1)
}

func (s *server) count(stream string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.subscribers[stream])
}

// corpusEvent is one encoded event without time and process id, which are added freshly each time it is sent.
type corpusEvent struct {
	stream string
	body   []byte
}

// readCorpus reads records of: one byte stream ('a' or 'l'), four bytes length (little endian), the encoded event.
func readCorpus(path string) ([]corpusEvent, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	names := map[byte]string{'a': "WatchAlerts", 'l': "WatchLogs"}
	var corpus []corpusEvent
	reader := bufio.NewReaderSize(file, 1<<20)
	for {
		var head [5]byte
		if _, err := io.ReadFull(reader, head[:]); errors.Is(err, io.EOF) {
			return corpus, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: event %d: %w", path, len(corpus), err)
		}
		stream, known := names[head[0]]
		if !known {
			return nil, fmt.Errorf("%s: event %d: unknown stream %q", path, len(corpus), head[0])
		}
		body := make([]byte, binary.LittleEndian.Uint32(head[1:]))
		if _, err := io.ReadFull(reader, body); err != nil {
			return nil, fmt.Errorf("%s: event %d: %w", path, len(corpus), err)
		}
		corpus = append(corpus, corpusEvent{stream, body})
	}
}

// fresh is the event with the time of now and a process id of its own: of a field that comes twice the last one counts.
func (e corpusEvent) fresh(sequence int64) raw {
	now := time.Now().UTC()
	event := make(raw, 0, len(e.body)+48)
	event = append(event, e.body...)
	event = append(event, tagTimestamp)
	event = binary.AppendUvarint(event, uint64(now.Unix()))
	event = append(event, tagUpdatedTime, byte(len(updatedTimeLayout)))
	event = now.AppendFormat(event, updatedTimeLayout)
	event = append(event, tagHostPID)
	return binary.AppendUvarint(event, uint64(sequence&0x7fffffff)+1)
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to serve on")
	corpusPath := flag.String("corpus", "", "file of encoded events")
	rate := flag.Float64("rate", 1000, "events per second")
	count := flag.Int64("count", 0, "events to send, 0 for no limit")
	duration := flag.Duration("duration", 0, "time to send for, 0 for no limit")
	slots := flag.Int("slots", 1000, "slots per subscriber")
	ping := flag.Duration("ping", time.Second, "server's keepalive ping")
	flag.Parse()

	corpus, err := readCorpus(*corpusPath)
	if err != nil {
		log.Fatal(err)
	}
	if len(corpus) == 0 {
		log.Fatalf("%s: no events", *corpusPath)
	}
	wanted := map[string]bool{}
	for _, event := range corpus {
		wanted[event.stream] = true
	}

	s := &server{subscribers: map[string]map[*subscriber]struct{}{}, slots: *slots}
	grpcServer := grpc.NewServer(
		grpc.ForceServerCodec(rawCodec{}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: *ping, Timeout: 5 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{PermitWithoutStream: true}),
	)
	grpcServer.RegisterService(&grpc.ServiceDesc{
		ServiceName: "feeder.LogService",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "HealthCheck", Handler: s.healthCheck}},
		Streams: []grpc.StreamDesc{
			{StreamName: "WatchAlerts", Handler: s.watch("WatchAlerts"), ServerStreams: true},
			{StreamName: "WatchLogs", Handler: s.watch("WatchLogs"), ServerStreams: true},
			{StreamName: "WatchMessages", Handler: s.watch("WatchMessages"), ServerStreams: true},
		},
	}, s)
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		if err := grpcServer.Serve(listener); err != nil {
			log.Fatal(err)
		}
	}()
	say(map[string]any{"endpoint": listener.Addr().String(), "events": len(corpus)})

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	for stream := range wanted { // nothing is sent before every stream of the corpus has a reader
		for s.count(stream) == 0 {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	say(map[string]any{"subscribed": time.Now().UnixNano()})

	began := time.Now()
	var sequence int64
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
sending:
	for (*count == 0 || sequence < *count) && (*duration == 0 || time.Since(began) < *duration) {
		due := int64(time.Since(began).Seconds() * *rate)
		if *count > 0 && due > *count {
			due = *count
		}
		for ; sequence < due; sequence++ {
			event := corpus[sequence%int64(len(corpus))]
			s.publish(event.stream, event.fresh(sequence))
		}
		select {
		case <-stop:
			break sending
		case <-ticker.C:
		}
	}
	took := time.Since(began)
	say(map[string]any{
		"published": s.published.Load(), "dropped": s.dropped.Load(), "fullest": s.fullest.Load(),
		"seconds": took.Seconds(),
	})
	<-stop // the streams stay open until the harness has seen everything arrive
	say(map[string]any{"sent": s.sent.Load()})
}

// say prints one JSON line for the harness.
func say(facts map[string]any) {
	line, err := json.Marshal(facts)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(line))
}
