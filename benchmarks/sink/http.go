package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
)

const logsPath = "/v1/logs"

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// countingReader counts what is read through it.
type countingReader struct {
	from io.Reader
	size int
}

func (r *countingReader) Read(into []byte) (int, error) {
	n, err := r.from.Read(into)
	r.size += n
	return n, err
}

// serveHTTP counts logs posted to /v1/logs, plain or gzipped; it takes and forgets what is posted elsewhere.
func serveHTTP(address string, t *tally) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	handle := func(answer http.ResponseWriter, request *http.Request) {
		answer.Header().Set("Content-Type", "application/x-protobuf")
		packed := &countingReader{from: request.Body}
		var body io.Reader = packed
		if request.Header.Get("Content-Encoding") == "gzip" {
			unpacked, err := gzip.NewReader(body)
			if err != nil {
				answer.WriteHeader(http.StatusBadRequest)
				return
			}
			body = unpacked
		}
		buffer := buffers.Get().(*bytes.Buffer)
		defer buffers.Put(buffer)
		buffer.Reset()
		if _, err := buffer.ReadFrom(io.LimitReader(body, maxMessageBytes)); err != nil {
			answer.WriteHeader(http.StatusBadRequest)
			return
		}
		if request.URL.Path != logsPath {
			return
		}
		t.addWire(packed.size)
		if t.refusing.Load() {
			answer.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if err := t.add(buffer.Bytes()); err != nil {
			answer.WriteHeader(http.StatusBadRequest)
		}
	}
	go func() {
		if err := http.Serve(listener, http.HandlerFunc(handle)); err != nil {
			log.Fatal(err)
		}
	}()
	return listener, nil
}
