package embed

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/tmc/langchaingo/llms/ollama"
	"github.com/tmc/langchaingo/llms/openai"

	"semantos/internal/tune"
)

// Config says which service embeds. Zero numbers mean the defaults named beside them.
type Config struct {
	URL     string        // of the service; Ollama also "host:port". OpenAI: "" is its own address
	Model   string        // the service's name of the model
	Key     string        // OpenAI: the API key; never part of an error
	Timeout time.Duration // of one request with its retries; 20 s
	Retries int           // after 429, 500, 502, 503, 504 or a lost connection; 2, negative for none
	Batch   int           // texts of one request; 64
}

// Defaults and limits of a service.
const (
	defaultTimeout  = 20 * time.Second
	defaultRetries  = 2
	defaultBatch    = 64
	openAIAddress   = "https://api.openai.com/v1"
	maxRemoteText   = 24 << 10 // bytes of a text that are sent: services refuse longer ones
	maxDim          = 1 << 16
	maxMessageBytes = 240 // of a service's message in an error
)

// Remote embeds through a service. The dimension is learned from its first answer and every later one is
// held to it. Safe for concurrent use.
type Remote struct {
	name   string
	key    string
	batch  int
	dim    atomic.Int64
	client interface {
		CreateEmbedding(ctx context.Context, texts []string) ([][]float32, error)
	}
}

// NewOllama embeds with a model of an Ollama server. Nothing is sent yet.
func NewOllama(c Config) (*Remote, error) { return newOllama(c, pause) }

// NewOpenAI embeds with a service that speaks OpenAI's protocol. Nothing is sent yet.
func NewOpenAI(c Config) (*Remote, error) { return newOpenAI(c, pause) }

func newOllama(c Config, wait waiter) (*Remote, error) {
	if c.URL != "" && !strings.Contains(c.URL, "://") {
		c.URL = "http://" + c.URL
	}
	if err := c.complete("Ollama"); err != nil {
		return nil, err
	}
	client, err := ollama.New(ollama.WithServerURL(c.URL), ollama.WithModel(c.Model), ollama.WithHTTPClient(newClient(c, wait)))
	if err != nil {
		return nil, fmt.Errorf("set up Ollama embeddings: %w", err)
	}
	return &Remote{name: "ollama/" + c.Model, key: c.Key, batch: c.Batch, client: client}, nil
}

func newOpenAI(c Config, wait waiter) (*Remote, error) {
	if c.URL == "" {
		c.URL = openAIAddress
	}
	if err := c.complete("OpenAI"); err != nil {
		return nil, err
	}
	if c.Key == "" {
		return nil, &tune.Error{Op: "set up OpenAI embeddings", Err: fmt.Errorf("no API key: %w", tune.ErrUsage), Hint: "set OPENAI_API_KEY"}
	}
	client, err := openai.New(openai.WithBaseURL(c.URL), openai.WithToken(c.Key), openai.WithEmbeddingModel(c.Model),
		openai.WithModel(c.Model), openai.WithOrganization(""), openai.WithHTTPClient(newClient(c, wait)))
	if err != nil {
		return nil, fmt.Errorf("set up OpenAI embeddings: %w", err)
	}
	return &Remote{name: "openai/" + c.Model, key: c.Key, batch: c.Batch, client: client}, nil
}

// complete checks the address here, because langchaingo ends the process on one that does not parse.
func (c *Config) complete(service string) error {
	fail := func(what, hint string) error {
		return &tune.Error{Op: "set up " + service + " embeddings", Err: fmt.Errorf("%s: %w", what, tune.ErrUsage), Hint: hint}
	}
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fail("the address is not one of http or https", "for example http://127.0.0.1:11434")
	}
	if c.Model == "" {
		return fail("no model", "name the service's embedding model")
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if c.Retries == 0 {
		c.Retries = defaultRetries
	}
	if c.Batch <= 0 {
		c.Batch = defaultBatch
	}
	return nil
}

// Name is the service and its model; the address does not matter for what a vector means.
func (r *Remote) Name() string { return r.name }

// Dim is the length of a vector, 0 before the first answer.
func (r *Remote) Dim() int { return int(r.dim.Load()) }

// Embed asks the service in batches. A text beyond 24 KiB is cut there.
func (r *Remote) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	clipped := make([]string, len(texts))
	for i, t := range texts {
		if strings.TrimSpace(t) == "" {
			return nil, emptyText(i)
		}
		clipped[i] = clip(t, maxRemoteText)
	}
	out := make([][]float32, 0, len(texts))
	for len(clipped) > 0 {
		n := min(r.batch, len(clipped))
		vectors, err := r.ask(ctx, clipped[:n])
		if err != nil {
			return nil, err
		}
		out, clipped = append(out, vectors...), clipped[n:]
	}
	return out, nil
}

func (r *Remote) ask(ctx context.Context, texts []string) ([][]float32, error) {
	var met outcome
	vectors, err := r.client.CreateEmbedding(context.WithValue(ctx, outcomeKey{}, &met), texts)
	// The library's error of a deadline does not unwrap to it.
	if ended := ctx.Err(); ended != nil {
		return nil, fmt.Errorf("embed with %s: %w", r.name, ended)
	}
	if err != nil {
		return nil, r.failed(met, err)
	}
	if len(vectors) != len(texts) {
		return nil, r.nonsense(fmt.Sprintf("%d vectors for %d texts", len(vectors), len(texts)))
	}
	for _, v := range vectors {
		if err := r.check(v); err != nil {
			return nil, err
		}
	}
	return vectors, nil
}

// check holds a vector to the learned dimension and makes it a unit vector.
func (r *Remote) check(v []float32) error {
	if len(v) == 0 || len(v) > maxDim {
		return r.nonsense(fmt.Sprintf("a vector of %d numbers", len(v)))
	}
	if !r.dim.CompareAndSwap(0, int64(len(v))) && r.Dim() != len(v) {
		return r.nonsense(fmt.Sprintf("a vector of %d numbers where it gave %d before", len(v), r.Dim()))
	}
	if !unit(v) {
		return r.nonsense("a vector without a direction")
	}
	return nil
}

func (r *Remote) nonsense(what string) error {
	return &tune.Error{
		Op: "embed with", Subject: r.name, Err: fmt.Errorf("it answered %s: %w", what, tune.ErrCorrupt),
		Hint: "check that the model is one for embeddings",
	}
}

// failed makes the operator's error. The cause is kept as text only, so that nothing that unwraps it can
// meet the key.
func (r *Remote) failed(met outcome, err error) error {
	text := r.scrub(err.Error())
	e := &tune.Error{Op: "embed with", Subject: r.name}
	switch {
	case met.status == http.StatusUnauthorized || met.status == http.StatusForbidden:
		e.Err, e.Hint = fmt.Errorf("%s: %w", text, tune.ErrNotPermitted), "check the API key"
	case met.lost != nil || met.status >= 300:
		if met.lost != nil {
			text = r.scrub(met.lost.Error())
		}
		e.Err, e.Hint = fmt.Errorf("%s (%d attempts): %w", text, met.attempts, tune.ErrNoData), "check that the service runs and has the model"
	default:
		e.Err, e.Hint = fmt.Errorf("its answer is unusable: %s: %w", text, tune.ErrCorrupt), "check that the address is the service's"
	}
	return e
}

func (r *Remote) scrub(text string) string {
	if r.key != "" {
		text = strings.ReplaceAll(text, r.key, "(key)")
	}
	return clip(strings.Join(strings.Fields(text), " "), maxMessageBytes)
}

// clip cuts at a whole rune.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}

// isTimeout: the client's own limit passed, not the caller's.
func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
