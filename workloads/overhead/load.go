package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"semantos/workloads"
)

// load is something whose throughput is measured.
type load interface {
	name() string
	unit() string
	start(ctx context.Context) error
	// measure loads for d and gives completions per second.
	measure(ctx context.Context, d time.Duration) (float64, error)
	stop()
}

// web is nginx answering a short text over kept connections, asked by wrk.
type web struct {
	dir  string
	url  string
	proc *exec.Cmd
}

func (*web) name() string { return "nginx" }
func (*web) unit() string { return "requests" }

const nginxConf = `daemon off; worker_processes 1; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 512; }
http { access_log off; keepalive_requests 1000000; client_body_temp_path %[1]s; proxy_temp_path %[1]s;
  fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
  server { listen 127.0.0.1:%[2]d; location / { return 200 "ok\n"; } } }
`

func (w *web) start(ctx context.Context) error {
	nginx, err := workloads.Tool("nginx")
	if err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	if w.dir, err = os.MkdirTemp("", "overhead"); err != nil {
		return err
	}
	conf := filepath.Join(w.dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, w.dir, port), 0o644); err != nil {
		return err
	}
	w.url = fmt.Sprintf("http://127.0.0.1:%d/", port)
	w.proc = exec.CommandContext(ctx, nginx, "-c", conf, "-p", w.dir, "-e", filepath.Join(w.dir, "error.log"))
	w.proc.Cancel = func() error { return w.proc.Process.Signal(unix.SIGTERM) }
	if err := w.proc.Start(); err != nil {
		return err
	}
	for range 50 {
		if resp, err := http.Get(w.url); err == nil {
			return resp.Body.Close()
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.stop()
	return errors.New("nginx does not answer")
}

func (w *web) stop() {
	if w.proc != nil && w.proc.Process != nil {
		_ = w.proc.Process.Signal(unix.SIGTERM)
		_ = w.proc.Wait()
	}
	os.RemoveAll(w.dir)
}

var perSecond = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)

func (w *web) measure(ctx context.Context, d time.Duration) (float64, error) {
	wrk, err := workloads.Tool("wrk")
	if err != nil {
		return 0, err
	}
	out, err := exec.CommandContext(ctx, wrk, "-t1", "-c32", fmt.Sprintf("-d%.0fs", max(1, d.Seconds())), w.url).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("wrk: %w: %s", err, out)
	}
	m := perSecond.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("wrk says no throughput: %s", out)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// syscalls is the storm: one thread that does nothing but enter the kernel.
type syscalls struct{}

func (*syscalls) name() string                { return "syscall storm" }
func (*syscalls) unit() string                { return "calls" }
func (*syscalls) start(context.Context) error { return nil }
func (*syscalls) stop()                       {}

func (*syscalls) measure(ctx context.Context, d time.Duration) (float64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	out, err := exec.CommandContext(ctx, self, "storm", d.String()).Output()
	if err != nil {
		return 0, fmt.Errorf("storm: %w", err)
	}
	return strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
}

func storm(arg string) error {
	d, err := time.ParseDuration(arg)
	if err != nil {
		return err
	}
	n, start := 0, time.Now()
	for time.Since(start) < d {
		for range 1000 {
			_, _, _ = unix.RawSyscall(unix.SYS_GETPID, 0, 0, 0)
		}
		n += 1000
	}
	fmt.Printf("%.0f\n", float64(n)/time.Since(start).Seconds())
	return nil
}
