package embed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"semantos/internal/tune"
)

const secret = "sk-very-secret-0123456789"

// service is a fake of both protocols: answer gives status, body and headers of the n-th request (from 1).
type service struct {
	*httptest.Server
	mu     sync.Mutex
	met    seen
	answer func(w http.ResponseWriter, n int, texts []string) // nil: never answers
}

func serve(t *testing.T, answer func(w http.ResponseWriter, n int, texts []string)) *service {
	t.Helper()
	s, stop := &service{answer: answer}, make(chan struct{})
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var in struct {
			Model string `json:"model"`
			Input any    `json:"input"`
		}
		if err := json.Unmarshal(body, &in); err != nil || in.Model != "model" {
			t.Errorf("request %s: %v", body, err)
		}
		var texts []string
		switch x := in.Input.(type) {
		case string:
			texts = []string{x}
		case []any:
			for _, e := range x {
				texts = append(texts, e.(string))
			}
		}
		s.mu.Lock()
		s.met.requests++
		n := s.met.requests
		s.met.texts, s.met.bodies = append(s.met.texts, len(texts)), append(s.met.bodies, string(body))
		s.mu.Unlock()
		if s.answer == nil {
			<-stop
			return
		}
		s.answer(w, n, texts)
	}))
	t.Cleanup(func() { close(stop); s.CloseClientConnections(); s.Close() })
	return s
}

// seen is what a service was asked: requests, texts of each, bodies.
type seen struct {
	requests int
	texts    []int
	bodies   []string
}

func (s *service) seen() seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.met
}

// both runs a test on Ollama and OpenAI. waits gathers what the client would have slept.
func both(t *testing.T, answer func(ollama bool) func(http.ResponseWriter, int, []string), c Config,
	test func(t *testing.T, r *Remote, s *service, waits *[]time.Duration),
) {
	t.Helper()
	for _, kind := range []string{"ollama", "openai"} {
		t.Run(kind, func(t *testing.T) {
			s := serve(t, answer(kind == "ollama"))
			var waits []time.Duration
			wait := func(ctx context.Context, d time.Duration) error {
				waits = append(waits, d)
				return ctx.Err()
			}
			c.URL, c.Model, c.Key = s.URL, "model", secret
			connect := newOpenAI
			if kind == "ollama" {
				connect = newOllama
			}
			r, err := connect(c, wait)
			if err != nil {
				t.Fatal(err)
			}
			test(t, r, s, &waits)
		})
	}
}

// vectors writes an answer with one vector of dim per text; its first number is the text's length.
func vectors(w io.Writer, ollama bool, texts []string, dim int) {
	list := make([][]float64, len(texts))
	for i, text := range texts {
		list[i] = make([]float64, dim)
		list[i][0], list[i][1] = float64(len(text)), 1
	}
	encode(w, ollama, list)
}

func encode(w io.Writer, ollama bool, list [][]float64) {
	if ollama {
		_ = json.NewEncoder(w).Encode(map[string]any{"embeddings": list})
		return
	}
	var data []map[string]any
	for i, v := range list {
		data = append(data, map[string]any{"object": "embedding", "index": i, "embedding": v})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"object": "list", "data": data})
}

func good(ollama bool) func(http.ResponseWriter, int, []string) {
	return func(w http.ResponseWriter, _ int, texts []string) { vectors(w, ollama, texts, 4) }
}

func TestRemoteEmbedsInOrderAndBatches(t *testing.T) {
	both(t, good, Config{Batch: 3}, func(t *testing.T, r *Remote, s *service, _ *[]time.Duration) {
		if r.Dim() != 0 {
			t.Errorf("dimension %d before any answer", r.Dim())
		}
		texts := []string{"a", "bb", "ccc", "dddd", "eeeee", "ffffff", "ggggggg"}
		got, err := r.Embed(context.Background(), texts)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range got {
			if ratio := v[0] / v[1]; math.Abs(float64(ratio)-float64(len(texts[i]))) > 1e-4 || math.Abs(product(v, v)-1) > 1e-6 {
				t.Errorf("text %d has vector %v", i, v)
			}
		}
		if r.Dim() != 4 || !strings.HasSuffix(r.Name(), "/model") {
			t.Errorf("%s of dimension %d", r.Name(), r.Dim())
		}
		want := []int{3, 3, 1}
		if strings.HasPrefix(r.Name(), "ollama") {
			want = []int{1, 1, 1, 1, 1, 1, 1} // the library sends one text a request
		}
		if !slices.Equal(s.seen().texts, want) {
			t.Errorf("texts a request: %v, want %v", s.seen().texts, want)
		}
	})
}

func TestRemoteRetries(t *testing.T) {
	for _, c := range []struct {
		name, after string
		status      int
		bad         int // answers before a good one
		requests    int
		waits       []time.Duration
		want        error
	}{
		{"429 with Retry-After", "3", 429, 1, 2, []time.Duration{3 * time.Second}, nil},
		{"429 that asks for too long", "9999", 429, 1, 1, nil, tune.ErrNoData},
		{"429 with nonsense", "soon", 429, 1, 2, []time.Duration{firstWait}, nil},
		{"502 twice", "", 502, 2, 3, []time.Duration{firstWait, 2 * firstWait}, nil},
		{"503 for ever", "", 503, 99, 3, []time.Duration{firstWait, 2 * firstWait}, tune.ErrNoData},
		{"400 at once", "", 400, 99, 1, nil, tune.ErrNoData},
		{"404 at once", "", 404, 99, 1, nil, tune.ErrNoData},
		{"401 at once", "", 401, 99, 1, nil, tune.ErrNotPermitted},
		{"redirect", "", 307, 99, 1, nil, tune.ErrNoData},
		{"204", "", 204, 99, 3, []time.Duration{firstWait, 2 * firstWait}, tune.ErrNoData},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(ollama bool) func(http.ResponseWriter, int, []string) {
				return func(w http.ResponseWriter, n int, texts []string) {
					if n > c.bad {
						vectors(w, ollama, texts, 4)
						return
					}
					if c.after != "" {
						w.Header().Set("Retry-After", c.after)
					}
					w.Header().Set("Location", "http://127.0.0.1:1/elsewhere")
					w.WriteHeader(c.status)
					if c.status >= 400 {
						fmt.Fprintf(w, `{"error": {"message": "no, not with %s"}}`, secret)
					}
				}
			}, Config{}, func(t *testing.T, r *Remote, s *service, waits *[]time.Duration) {
				_, err := r.Embed(context.Background(), []string{"a text"})
				if c.status == 307 || c.status == 204 { // lost answers are asked for again, redirects too
					c.requests, c.waits = 3, []time.Duration{firstWait, 2 * firstWait}
				}
				if !errors.Is(err, c.want) || s.seen().requests != c.requests || !slices.Equal(*waits, c.waits) {
					t.Errorf("%v after %d requests, waits %v; want %v after %d, %v", err, s.seen().requests, *waits, c.want, c.requests, c.waits)
				}
				for _, b := range s.seen().bodies {
					if b != s.seen().bodies[0] {
						t.Errorf("asked again with another body: %s", b)
					}
				}
				noSecret(t, err)
			})
		})
	}
}

// noSecret: neither the error nor anything it unwraps to has the key, in any format.
func noSecret(t *testing.T, err error) {
	t.Helper()
	for e := err; e != nil; e = errors.Unwrap(e) {
		if text := fmt.Sprintf("%v %+v %#v %s", e, e, e, tune.Hint(e)); strings.Contains(text, secret) {
			t.Errorf("the key is in %s", text)
		}
	}
}

func TestRemoteNonsense(t *testing.T) {
	raw := func(body string) func(bool) func(http.ResponseWriter, int, []string) {
		return func(bool) func(http.ResponseWriter, int, []string) {
			return func(w http.ResponseWriter, _ int, _ []string) { _, _ = io.WriteString(w, body) }
		}
	}
	list := func(v [][]float64) func(bool) func(http.ResponseWriter, int, []string) {
		return func(ollama bool) func(http.ResponseWriter, int, []string) {
			return func(w http.ResponseWriter, _ int, _ []string) { encode(w, ollama, v) }
		}
	}
	for name, answer := range map[string]func(bool) func(http.ResponseWriter, int, []string){
		"a page":           raw("<html>welcome</html>"),
		"nothing":          raw(""),
		"another shape":    raw(`{"hello": 1}`),
		"no vectors":       list(nil),
		"one too many":     list([][]float64{{1, 2}, {3, 4}}),
		"an empty vector":  list([][]float64{{}}),
		"a zero vector":    list([][]float64{{0, 0, 0}}),
		"numbers too big":  raw(`{"embeddings":[[1e99,1]],"data":[{"embedding":[1e99,1]}]}`),
		"not a number":     raw(`{"embeddings":[[NaN,1]],"data":[{"embedding":[NaN,1]}]}`),
		"words as numbers": raw(`{"embeddings":[["a","b"]],"data":[{"embedding":["a","b"]}]}`),
		"nulls":            raw(`{"embeddings":[null],"data":[{"embedding":null}]}`),
	} {
		t.Run(name, func(t *testing.T) {
			both(t, answer, Config{}, func(t *testing.T, r *Remote, _ *service, _ *[]time.Duration) {
				got, err := r.Embed(context.Background(), []string{"a text"})
				if !errors.Is(err, tune.ErrCorrupt) || got != nil {
					t.Errorf("%v, %v; want corrupt data", got, err)
				}
				noSecret(t, err)
			})
		})
	}
}

func TestRemoteHoldsTheDimension(t *testing.T) {
	both(t, func(ollama bool) func(http.ResponseWriter, int, []string) {
		return func(w http.ResponseWriter, n int, texts []string) { vectors(w, ollama, texts, 3+n) }
	}, Config{}, func(t *testing.T, r *Remote, _ *service, _ *[]time.Duration) {
		if _, err := r.Embed(context.Background(), []string{"first"}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Embed(context.Background(), []string{"second"}); !errors.Is(err, tune.ErrCorrupt) || r.Dim() != 4 {
			t.Errorf("another dimension: %v, %d", err, r.Dim())
		}
	})
}

func TestRemoteTruncatedAndEndless(t *testing.T) {
	for name, write := range map[string]func(w http.ResponseWriter){
		"truncated": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"embeddings":[[1,`)
		},
		"endless": func(w http.ResponseWriter) {
			for block := strings.Repeat("1", 1<<20); ; {
				if _, err := io.WriteString(w, block); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(bool) func(http.ResponseWriter, int, []string) {
				return func(w http.ResponseWriter, _ int, _ []string) { write(w) }
			}, Config{Retries: 1}, func(t *testing.T, r *Remote, s *service, _ *[]time.Duration) {
				if _, err := r.Embed(context.Background(), []string{"a text"}); !errors.Is(err, tune.ErrNoData) || s.seen().requests != 2 {
					t.Errorf("%v after %d requests", err, s.seen().requests)
				}
			})
		})
	}
}

// TestRemoteHangs: the caller's deadline comes back as such, though the library hides it; the client's
// own limit is a service that gives no data, and is not waited for twice.
func TestRemoteHangs(t *testing.T) {
	hang := func(bool) func(http.ResponseWriter, int, []string) { return nil }
	both(t, hang, Config{}, func(t *testing.T, r *Remote, _ *service, _ *[]time.Duration) {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if _, err := r.Embed(ctx, []string{"a text"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("caller's deadline: %v", err)
		}
		ctx, cancel = context.WithCancel(context.Background())
		time.AfterFunc(50*time.Millisecond, cancel)
		if _, err := r.Embed(ctx, []string{"a text"}); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
	both(t, hang, Config{Timeout: 100 * time.Millisecond}, func(t *testing.T, r *Remote, s *service, _ *[]time.Duration) {
		if _, err := r.Embed(context.Background(), []string{"a text"}); !errors.Is(err, tune.ErrNoData) || s.seen().requests != 1 {
			t.Errorf("client's limit: %v after %d requests", err, s.seen().requests)
		}
	})
}

func TestRemoteUnreachable(t *testing.T) {
	both(t, good, Config{Retries: -1}, func(t *testing.T, r *Remote, s *service, _ *[]time.Duration) {
		s.Close()
		_, err := r.Embed(context.Background(), []string{"a text"})
		if !errors.Is(err, tune.ErrNoData) || tune.Hint(err) == "" {
			t.Errorf("unreachable: %v", err)
		}
		noSecret(t, err)
	})
}

func TestRemoteTexts(t *testing.T) {
	both(t, good, Config{}, func(t *testing.T, r *Remote, s *service, _ *[]time.Duration) {
		if _, err := r.Embed(context.Background(), []string{"good", " \n"}); !errors.Is(err, tune.ErrUsage) || s.seen().requests != 0 {
			t.Errorf("an empty text: %v after %d requests", err, s.seen().requests)
		}
		if _, err := r.Embed(context.Background(), []string{strings.Repeat("é", maxRemoteText)}); err != nil {
			t.Errorf("a long text: %v", err)
		}
		if n := len(s.seen().bodies[0]); n > maxRemoteText*3 {
			t.Errorf("a long text is sent whole: %d bytes", n)
		}
	})
}

func TestRemoteConfig(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(Config) (*Remote, error)
		c    Config
		ok   bool
	}{
		{"host and port", NewOllama, Config{URL: "127.0.0.1:11434", Model: "m"}, true},
		{"no address", NewOllama, Config{Model: "m"}, false},
		{"another scheme", NewOllama, Config{URL: "ftp://host", Model: "m"}, false},
		{"not an address", NewOllama, Config{URL: "http://[::1", Model: "m"}, false},
		{"no model", NewOllama, Config{URL: "http://host"}, false},
		{"OpenAI itself", NewOpenAI, Config{Model: "m", Key: "k"}, true},
		{"no key", NewOpenAI, Config{Model: "m"}, false},
	} {
		if _, err := c.make(c.c); (err == nil) != c.ok || err != nil && !errors.Is(err, tune.ErrUsage) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
