package registrytest

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Fault looks at a request first; true says that it has answered it.
type Fault = func(http.ResponseWriter, *http.Request) bool

// CutOnce answers the first request for a path that ends in suffix with half of data, and then
// breaks the connection.
func CutOnce(suffix string, data []byte) func(http.ResponseWriter, *http.Request) bool {
	var once sync.Once
	return func(w http.ResponseWriter, req *http.Request) (cut bool) {
		if !strings.HasSuffix(req.URL.Path, suffix) || req.Method != http.MethodGet {
			return false
		}
		once.Do(func() {
			cut = true
			w.Header().Set("Content-Length", strconv.Itoa(len(data)))
			_, _ = w.Write(data[:len(data)/2])
			if f, ok := w.(http.Flusher); ok {
				f.Flush()
			}
			panic(http.ErrAbortHandler)
		})
		return cut
	}
}

// FailFirst answers the first n requests for a path that ends in suffix with a status.
func FailFirst(suffix string, n, status int) func(http.ResponseWriter, *http.Request) bool {
	var mu sync.Mutex
	return func(w http.ResponseWriter, req *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if !strings.HasSuffix(req.URL.Path, suffix) || n <= 0 {
			return false
		}
		n--
		fail(w, status, "UNKNOWN", "try again")
		return true
	}
}

// On has f see the requests whose path ends in suffix, the first n of them (n < 0: all).
func On(suffix string, n int, f func(w http.ResponseWriter, req *http.Request)) Fault {
	var mu sync.Mutex
	return func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.HasSuffix(req.URL.Path, suffix) {
			return false
		}
		mu.Lock()
		hit := n != 0
		n -= min(max(n, 0), 1)
		mu.Unlock()
		if hit {
			f(w, req)
		}
		return hit
	}
}

// Status answers with a status and headers, given as name, value, name, value.
func Status(status int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		fail(w, status, "UNKNOWN", "try again")
	}
}

// Silent says nothing until the client has gone.
func Silent(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }

// Stall sends data up to at, from the byte that was asked for, and then nothing.
func Stall(data []byte, at int) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		part(w, req, data, at)
		<-req.Context().Done()
	}
}

// Cut sends data up to at, from the byte that was asked for, and breaks the connection.
func Cut(data []byte, at int) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		part(w, req, data, at)
		panic(http.ErrAbortHandler)
	}
}

func part(w http.ResponseWriter, req *http.Request, data []byte, to int) {
	from, ok := rangeFrom(req)
	w.Header().Set("Content-Length", strconv.Itoa(len(data)-from))
	if ok {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
		w.WriteHeader(http.StatusPartialContent)
	}
	if from < to {
		_, _ = w.Write(data[from:to])
	}
	flush(w)
}

// Drip sends data byte by byte, one each pause, and Endless data again and again, both without saying how much it is.
func Drip(data []byte, pause time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		for i := range data {
			if _, err := w.Write(data[i : i+1]); err != nil {
				return
			}
			flush(w)
			select {
			case <-req.Context().Done():
				return
			case <-time.After(pause):
			}
		}
	}
}

// Endless is told of at Drip.
func Endless(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		for req.Context().Err() == nil {
			if _, err := w.Write(data); err != nil {
				return
			}
		}
	}
}

func flush(w http.ResponseWriter) {
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}
