package neo4j

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	"semantos/internal/tune"
)

// row reads one record. The first value that is missing or of the wrong type is kept as the error, so
// that a record is read in one go and checked once.
type row struct {
	values map[string]any
	err    error
}

func (r *row) fail(key, want string) {
	if r.err != nil {
		return
	}
	got := "missing"
	if v, ok := r.values[key]; ok && v != nil {
		got = fmt.Sprintf("a %T", v)
	}
	r.err = fmt.Errorf("%w: %q is %s, not %s", tune.ErrCorrupt, key, got, want)
}

func (r *row) text(key string) string {
	v, ok := r.values[key].(string)
	if !ok {
		r.fail(key, "text")
	}
	return v
}

func (r *row) whole(key string) int64 {
	v, ok := r.values[key].(int64)
	if !ok {
		r.fail(key, "a whole number")
	}
	return v
}

// number takes whole numbers too: that is what 1 becomes when a person writes it.
func (r *row) number(key string) float64 {
	switch v := r.values[key].(type) {
	case float64:
		return v
	case int64:
		return float64(v)
	}
	r.fail(key, "a number")
	return math.NaN()
}

func (r *row) truth(key string) bool {
	v, ok := r.values[key].(bool)
	if !ok {
		r.fail(key, "true or false")
	}
	return v
}

// when reads a time as text; "" is the absent one.
func (r *row) when(key string) time.Time {
	text := r.text(key)
	if text == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		r.fail(key, "a time")
	}
	return t
}

func (r *row) document(key string, into any) {
	text := r.text(key)
	if r.err != nil {
		return
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		r.err = fmt.Errorf("%w: %q: %w", tune.ErrCorrupt, key, err)
	}
}

// one demands a single record.
func one(rows []row, err error) (row, error) {
	if err != nil {
		return row{}, err
	}
	if len(rows) != 1 {
		return row{}, fmt.Errorf("%w: %d records where one is due", tune.ErrCorrupt, len(rows))
	}
	return rows[0], nil
}
