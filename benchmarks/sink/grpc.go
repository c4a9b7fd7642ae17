package main

import (
	"context"
	"log"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // registers the compressor that clients use
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

const maxMessageBytes = 64 << 20

// raw is a message that is its own encoding.
type raw []byte

type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) { return v.(raw), nil }

func (rawCodec) Unmarshal(data []byte, v any) error {
	p := v.(*raw)
	*p = append((*p)[:0], data...)
	return nil
}

func (rawCodec) Name() string { return "proto" }

const exportMethod = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"

// wireCounter counts what the log requests take on the wire: their headers and their messages, before they are unpacked.
type wireCounter struct{ tally *tally }

type methodKey struct{}

func (wireCounter) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, methodKey{}, info.FullMethodName)
}

func (c wireCounter) HandleRPC(ctx context.Context, told stats.RPCStats) {
	if ctx.Value(methodKey{}) != exportMethod {
		return
	}
	switch told := told.(type) {
	case *stats.InHeader:
		c.tally.addWire(told.WireLength)
	case *stats.InPayload:
		c.tally.addWire(told.WireLength)
	}
}

func (wireCounter) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (wireCounter) HandleConn(context.Context, stats.ConnStats) {}

// serveGRPC counts exported logs; what else a client exports (spans, metrics) it takes and forgets.
func serveGRPC(address string, t *tally) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	export := func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		var request raw
		if err := decode(&request); err != nil {
			return nil, err
		}
		if t.refusing.Load() {
			return nil, status.Error(codes.Unavailable, "told to refuse")
		}
		if err := t.add(request); err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		return raw(nil), nil
	}
	server := grpc.NewServer(
		grpc.ForceServerCodec(rawCodec{}),
		grpc.MaxRecvMsgSize(maxMessageBytes),
		grpc.StatsHandler(wireCounter{t}),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			var request raw
			if err := stream.RecvMsg(&request); err != nil {
				return err
			}
			return stream.SendMsg(raw(nil))
		}),
	)
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "opentelemetry.proto.collector.logs.v1.LogsService",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Export", Handler: export}},
	}, t)
	go func() {
		if err := server.Serve(listener); err != nil {
			log.Fatal(err)
		}
	}()
	return listener, nil
}
