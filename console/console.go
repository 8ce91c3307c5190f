package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

// Config is what the console prints and calls. All interfaces are required.
type Config struct {
	Watch      Watch
	Adviser    Adviser
	Rollouts   Rollouts
	Samples    Samples
	Records    Records
	Knowing    Knowing
	Teaching   Teaching
	Collectors func() []CollectorStat
	Probes     func() ([]ProbeStat, []Histogram)
	Safety     func() SafetyCounts
	Hub        *Hub
	HostID     string // the host's name, "" takes the boot id
	Version    string
	Listen     string // the TCP address, to know whether it is loopback
	UID        int    // beside root the only user the socket answers
	Log        *slog.Logger
}

// Console serves. It keeps no state of its own but the metrics registry and the events' subscribers.
type Console struct {
	cfg     Config
	metrics http.Handler
	local   bool
	// bodyTime is what a client has to send its body.
	bodyTime time.Duration
}

// New checks that everything is wired.
func New(cfg Config) (*Console, error) {
	if cfg.Watch == nil || cfg.Adviser == nil || cfg.Rollouts == nil || cfg.Samples == nil || cfg.Records == nil ||
		cfg.Knowing == nil || cfg.Teaching == nil || cfg.Collectors == nil || cfg.Probes == nil || cfg.Safety == nil || cfg.Hub == nil || cfg.Log == nil {
		return nil, errors.New("make console: every interface, the hub and the log are required")
	}
	c := &Console{cfg: cfg, local: loopback(cfg.Listen), bodyTime: bodyTime}
	metrics, err := newMetrics(cfg)
	if err != nil {
		return nil, fmt.Errorf("make console: %w", err)
	}
	c.metrics = metrics
	return c, nil
}

// TCP serves the four resources that need no token.
func (c *Console) TCP() http.Handler {
	e := c.echo("not on this address: TCP serves /healthz, /readyz, /snapshot and /metrics, the rest is on the unix socket",
		"use the command line, or the unix socket semantos.sock in DATA_DIR")
	e.Use(c.checkHost)
	c.open(e)
	return e
}

// Unix serves everything, to callers that the socket's credentials allow.
func (c *Console) Unix() http.Handler {
	e := c.echo("no such resource", "see openapi.yaml")
	e.Use(c.checkPeer)
	c.open(e)
	e.POST("/get_recommendations", c.getRecommendations)
	e.POST("/apply", c.apply)
	e.POST("/rollback", c.rollback)
	e.POST("/rollout/advance", c.advance)
	e.POST("/rollout/hold", c.hold)
	e.POST("/rollout/abort", c.abort)
	e.POST("/rollout/sample", c.sample)
	e.POST("/freeze", c.freeze)
	e.POST("/calibrate", c.calibrate)
	e.GET("/status", c.status)
	e.GET("/history", c.history)
	e.GET("/events", c.events)
	e.POST("/log_outcome", c.upsertTrace)
	for path, h := range map[string]echo.HandlerFunc{
		"/kb/search": c.search, "/kb/typed_neighborhood": c.neighborhood, "/kb/dependency_path": c.path, "/kb/decay": c.decay,
		"/kb/upsert_tunable": c.upsertTunable, "/kb/dep_edge": c.upsertEdge, "/kb/induce": c.induce, "/kb/upsert_trace": c.upsertTrace,
	} {
		e.POST(path, h)
	}
	return e
}

// open adds what both listeners serve.
func (c *Console) open(e *echo.Echo) {
	for path, h := range map[string]echo.HandlerFunc{
		"/healthz": c.healthz, "/readyz": c.readyz, "/snapshot": c.snapshot, "/metrics": echo.WrapHandler(c.metrics),
	} {
		e.GET(path, h)
		e.HEAD(path, h)
	}
}

// echo gives a router whose errors are problems; absent says what a path that is not there means here.
func (c *Console) echo(absent, hint string) *echo.Echo {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.HTTPErrorHandler = func(err error, ctx echo.Context) {
		path := ctx.Request().URL.Path
		var framework *echo.HTTPError
		if errors.As(err, &framework) {
			if framework.Code == http.StatusNotFound {
				err = refuse(framework.Code, hint, "%s: %s", path, absent)
			} else {
				err = refuse(framework.Code, "see openapi.yaml", "%s %s: %v", ctx.Request().Method, path, framework.Message)
			}
		}
		c.fail(err, ctx)
	}
	e.Use(c.survive)
	return e
}

// fail prints any error of a handler as a problem.
func (c *Console) fail(err error, ctx echo.Context) {
	p := problemOf(err)
	if p.Status >= http.StatusInternalServerError && p.Status != http.StatusServiceUnavailable {
		c.cfg.Log.Error("request failed", "path", ctx.Request().URL.Path, "error", err)
	}
	if ctx.Response().Committed {
		return
	}
	if err := send(ctx, p.Status, "application/problem+json", p); err != nil {
		c.cfg.Log.Debug("answer not delivered", "error", err)
	}
}

// survive turns a panic into a problem; the trial of another request must not die with it.
func (c *Console) survive(next echo.HandlerFunc) echo.HandlerFunc {
	return func(ctx echo.Context) (err error) {
		defer func() {
			if r := recover(); r != nil {
				c.cfg.Log.Error("handler panicked", "path", ctx.Request().URL.Path, "panic", r, "stack", string(debug.Stack()))
				err = refuse(http.StatusInternalServerError, "see the log of serve and report it", "internal error")
			}
		}()
		return next(ctx)
	}
}

// send marshals first, so that a value JSON cannot hold is a problem and not half an answer.
func send(ctx echo.Context, status int, contentType string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("print answer: %w", err)
	}
	ctx.Response().Header().Set("X-Content-Type-Options", "nosniff")
	ctx.Response().Header().Set("Cache-Control", "no-store")
	return ctx.Blob(status, contentType, append(body, '\n'))
}

func answer(ctx echo.Context, v any) error { return send(ctx, http.StatusOK, "application/json", v) }

const shutdownTime = 30 * time.Second

// Serve answers on both listeners (either may be nil) until ctx ends; then requests in flight see their
// context end and have shutdownTime to put back what they changed.
func (c *Console) Serve(ctx context.Context, tcp, unix net.Listener) error {
	base, cancel := context.WithCancel(ctx)
	defer cancel()
	var servers []*http.Server
	failed := make(chan error, 2)
	start := func(l net.Listener, h http.Handler, write time.Duration) {
		s := &http.Server{
			Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, WriteTimeout: write,
			MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(c.cfg.Log.Handler(), slog.LevelDebug),
			BaseContext: func(net.Listener) context.Context { return base }, ConnContext: withPeer,
		}
		servers = append(servers, s)
		go func() {
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve %s: %w", l.Addr(), err)
			}
		}()
	}
	if tcp != nil {
		start(tcp, c.TCP(), 30*time.Second)
	}
	if unix != nil {
		start(unix, c.Unix(), 0) // a trial takes as long as it takes
	}
	var result error
	select {
	case <-ctx.Done():
	case result = <-failed:
	}
	cancel()
	return errors.Join(result, shutdown(servers))
}

func shutdown(servers []*http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	errs := make([]error, len(servers))
	var wg sync.WaitGroup
	for i, s := range servers {
		wg.Go(func() {
			if errs[i] = s.Shutdown(ctx); errs[i] != nil {
				errs[i] = errors.Join(fmt.Errorf("stop serving: %w", errs[i]), s.Close())
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
