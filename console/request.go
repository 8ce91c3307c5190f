package console

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

const (
	bodyLimit = 1 << 20
	bodyTime  = 10 * time.Second
)

// read decodes a body strictly: JSON, below 1 MiB, one value, no field the contract does not have. The
// deadline is the body's alone: net/http lifts it when the body has ended, and a trial may take long.
func (c *Console) read(ctx echo.Context, into any) error {
	req := ctx.Request()
	if kind, _, err := mime.ParseMediaType(req.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return refuse(http.StatusUnsupportedMediaType, "send Content-Type: application/json", "content type %q", req.Header.Get("Content-Type"))
	}
	conn := http.NewResponseController(ctx.Response())
	if err := conn.SetReadDeadline(time.Now().Add(c.bodyTime)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	dec := json.NewDecoder(http.MaxBytesReader(ctx.Response(), req.Body, bodyLimit))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("more than one JSON value")
			var large *http.MaxBytesError
			if errors.As(more, &large) {
				err = more
			}
		}
	}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return refuse(http.StatusRequestEntityTooLarge, "send less than 1 MiB", "the body is larger than %d bytes", large.Limit)
	case errors.Is(err, io.EOF):
		return refuse(http.StatusBadRequest, "send a JSON object; see openapi.yaml", "the body is empty")
	case err != nil:
		return refuse(http.StatusBadRequest, "see openapi.yaml", "read body: %v", err)
	}
	return nil
}
