// Command generator is a KubeArmor that is no bottleneck: a LogService on grpc-go with the upstream's manners, fed from a
// file of encoded events, for `make bench`.
// It is told what to send by lines on stdin, and says what it sent by JSON lines on stdout.
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
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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

const (
	tick = time.Millisecond
	// A machine that is busy wakes us late. What was due meanwhile goes out over some ticks, at 250,000 events/s at most:
	// all at once it would fill the slots, which says nothing about the reader.
	mostPerTick = 250
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

	dropped, fullest atomic.Int64
	drops            []drops

	address string
	ping    time.Duration
	grpc    *grpc.Server
}

// drops are events that found no room, within moments of one another: first, last (Unix nanoseconds) and number.
type drops [3]int64

const momentNanos = 50_000_000

func (s *server) drop() {
	s.dropped.Add(1)
	now := time.Now().UnixNano()
	if last := len(s.drops) - 1; last >= 0 && now-s.drops[last][1] < momentNanos {
		s.drops[last][1] = now
		s.drops[last][2]++
		return
	}
	s.drops = append(s.drops, drops{now, now, 1})
}

// road is a server that gets every event, less what it is to lose, and perhaps later than others do.
type road struct {
	server
	share   float64
	chance  *rand.Rand
	lost    int64
	late    time.Duration
	delayed chan delayed
}

type delayed struct {
	due    time.Time
	stream string
	event  raw
}

// carry gives the road an event; false where it loses it.
func (r *road) carry(stream string, event raw) bool {
	if r.share > 0 && r.chance.Float64() < r.share {
		r.lost++
		return false
	}
	if r.late > 0 {
		r.delayed <- delayed{time.Now().Add(r.late), stream, event}
	} else {
		r.publish(stream, event)
	}
	return true
}

// publishDelayed publishes what is late when its time has come.
func (r *road) publishDelayed() {
	for next := range r.delayed {
		time.Sleep(time.Until(next.due))
		r.publish(next.stream, next.event)
	}
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
			s.drop()
		}
	}
	s.mu.Unlock()
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

// phase is one stretch of sending: events at a rate, until so many are out.
type phase struct {
	rate  float64
	count int64
}

// run sends a phase from the corpus, which is read in a circle; sequence goes on from phase to phase.
func run(p phase, roads []*road, corpus []corpusEvent, sequence int64) map[string]any {
	var dropped, fullest, lostByAll int64
	lost, droppedEach := make([]int64, len(roads)), make([]int64, len(roads))
	for place, r := range roads {
		r.fullest.Store(0)
		r.drops = nil
		droppedEach[place] = -r.dropped.Load()
		lost[place] = -r.lost
	}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	began := time.Now()
	for sent := int64(0); sent < p.count; {
		due := min(int64(time.Since(began).Seconds()*p.rate), p.count, sent+mostPerTick)
		for ; sent < due; sent++ {
			event := corpus[(sequence+sent)%int64(len(corpus))]
			fresh, carried := event.fresh(sequence+sent), false
			for _, r := range roads {
				carried = r.carry(event.stream, fresh) || carried
			}
			if !carried {
				lostByAll++
			}
		}
		<-ticker.C
	}
	for place, r := range roads {
		droppedEach[place] += r.dropped.Load()
		dropped += droppedEach[place]
		fullest = max(fullest, r.fullest.Load())
		lost[place] += r.lost
	}
	return map[string]any{
		"published": p.count, "dropped": dropped, "fullest": fullest, "seconds": time.Since(began).Seconds(),
		"lost": lost, "lost_by_all": lostByAll, "dropped_each": droppedEach, "drops": roads[0].drops,
	}
}

// serve listens on the server's address, which is then the one that it got; after Stop it can be called again.
func (s *server) serve() error {
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		return err
	}
	s.address = listener.Addr().String()
	grpcServer := grpc.NewServer(
		grpc.ForceServerCodec(rawCodec{}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: s.ping, Timeout: 5 * time.Second}),
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
	go func() {
		if err := grpcServer.Serve(listener); err != nil {
			log.Fatal(err)
		}
	}()
	s.grpc = grpcServer
	return nil
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to serve on")
	corpusPath := flag.String("corpus", "", "file of encoded events")
	slots := flag.Int("slots", 1000, "slots per subscriber")
	ping := flag.Duration("ping", time.Second, "server's keepalive ping")
	shares := flag.String("shares", "0", "share of the events that each road to them loses, such as 0,0.05")
	late := flag.Duration("late", 0, "how much later the last road gets the events")
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
	var roads []*road
	var endpoints []string
	for place, text := range strings.Split(*shares, ",") {
		share, err := strconv.ParseFloat(text, 64)
		if err != nil {
			log.Fatalf("-shares %s: %v", *shares, err)
		}
		address := *listen
		if place > 0 {
			address = "127.0.0.1:0"
		}
		r := &road{
			server: server{subscribers: map[string]map[*subscriber]struct{}{}, slots: *slots, address: address, ping: *ping},
			share:  share, chance: rand.New(rand.NewPCG(1, uint64(place))),
		}
		if err := r.serve(); err != nil {
			log.Fatal(err)
		}
		roads, endpoints = append(roads, r), append(endpoints, r.address)
	}
	if last := roads[len(roads)-1]; *late > 0 {
		last.late, last.delayed = *late, make(chan delayed, 1<<20)
		go last.publishDelayed()
	}
	say(map[string]any{"endpoint": endpoints[0], "endpoints": endpoints, "events": len(corpus)})

	go func() {
		for _, r := range roads {
			for stream := range wanted {
				for r.count(stream) == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		}
		say(map[string]any{"subscribed": time.Now().UnixNano()})
	}()

	// Each line of stdin is a phase, answered when its last event is out, or the restart of a road; its end ends the program.
	var sequence int64
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var p phase
		var place int
		if _, err := fmt.Sscanf(lines.Text(), "restart %d", &place); err == nil {
			roads[place].grpc.Stop()
			if err := roads[place].serve(); err != nil {
				log.Fatal(err)
			}
			say(map[string]any{"restarted": place})
			continue
		}
		if _, err := fmt.Sscan(lines.Text(), &p.rate, &p.count); err != nil {
			log.Fatalf("%q: not RATE COUNT: %v", lines.Text(), err)
		}
		say(run(p, roads, corpus, sequence))
		sequence += p.count
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
