package meter

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"semantos/internal/tune"
)

// promMeter reads one number by an instant query at the end of each sample.
type promMeter struct {
	name    string
	url     string
	better  string
	timeout time.Duration
	client  *http.Client
}

const (
	queryPath  = "/api/v1/query"
	answerRead = 1 << 20
)

// newProm takes URL?query=EXPRESSION; better=higher beside the query says which way is better, lower
// otherwise. A bare host means its query API.
func newProm(u *url.URL, cfg Config) (Meter, error) {
	spec := "prom:" + u.String()
	q := u.Query()
	if q.Get("query") == "" {
		return nil, refuse(spec, tune.ErrUsage, "give prom:http://HOST:PORT/api/v1/query?query=EXPRESSION")
	}
	better := "lower"
	if q.Has("better") {
		better = q.Get("better")
		if better != "lower" && better != "higher" {
			return nil, refuse(spec, tune.ErrUsage, "better is lower or higher")
		}
		q.Del("better")
	}
	to := *u
	to.RawQuery = q.Encode()
	if to.Path == "" || to.Path == "/" {
		to.Path = queryPath
	}
	return &promMeter{name: spec, url: to.String(), better: better, timeout: cfg.Timeout, client: newClient()}, nil
}

func (m *promMeter) Name() string { return m.name }

// Fresh is false: who is behind the number, and how old its connections are, is unknown.
func (m *promMeter) Fresh() bool { return false }

// Measure says what the one value is.
func (m *promMeter) Measure() tune.Measure { return tune.Measure{Signal: "prom", Better: m.better} }

// Check asks once.
func (m *promMeter) Check(ctx context.Context) error {
	if _, err := m.query(ctx); err != nil {
		return &tune.Error{Op: "ask meter", Subject: m.name, Err: err, Hint: "check that the server answers and that the query gives exactly one number"}
	}
	return nil
}

// Sample implements [Meter].
func (m *promMeter) Sample(ctx context.Context, d time.Duration) (tune.MeterSample, error) {
	start := time.Now()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return tune.MeterSample{}, fmt.Errorf("prom meter stopped: %w", ctx.Err())
	case <-timer.C:
	}
	v, err := m.query(ctx)
	if err != nil {
		return tune.MeterSample{}, err
	}
	return tune.MeterSample{Start: start, End: time.Now(), Value: &v}, nil
}

func (m *promMeter) query(ctx context.Context) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.url, nil)
	if err != nil {
		return 0, fmt.Errorf("make query: %w", err)
	}
	resp, err := m.client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("query: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerRead))
	if err != nil {
		return 0, fmt.Errorf("read answer: %w", err)
	}
	return parseAnswer(body, resp.Status)
}

// parseAnswer reads the one number of an instant query's answer; none, several or NaN is no data.
func parseAnswer(body []byte, status string) (float64, error) {
	var answer struct {
		Status string `json:"status"`
		Error  string `json:"error"`
		Data   struct {
			Type   string          `json:"resultType"`
			Result json.RawMessage `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return 0, fmt.Errorf("read answer (%s): not the JSON of a query: %w", status, tune.ErrType)
	}
	if answer.Status != "success" {
		return 0, fmt.Errorf("query failed (%s): %s: %w", status, shown(answer.Error), tune.ErrNoData)
	}
	var pair []any
	switch answer.Data.Type {
	case "scalar":
		if err := json.Unmarshal(answer.Data.Result, &pair); err != nil {
			return 0, fmt.Errorf("read scalar: %w", tune.ErrType)
		}
	case "vector":
		var series []struct {
			Value []any `json:"value"`
		}
		if err := json.Unmarshal(answer.Data.Result, &series); err != nil {
			return 0, fmt.Errorf("read vector: %w", tune.ErrType)
		}
		if len(series) != 1 {
			return 0, fmt.Errorf("query gave %d series, want one: %w", len(series), tune.ErrNoData)
		}
		pair = series[0].Value
	default:
		return 0, fmt.Errorf("query gave a %s, want a vector or scalar: %w", shown(answer.Data.Type), tune.ErrType)
	}
	if len(pair) != 2 {
		return 0, fmt.Errorf("read value: %d fields, want 2: %w", len(pair), tune.ErrType)
	}
	text, ok := pair[1].(string)
	v, err := strconv.ParseFloat(text, 64)
	if !ok || err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("value %s is no number: %w", shown(fmt.Sprint(pair[1])), tune.ErrNoData)
	}
	return v, nil
}
