package web

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"semantos/workloads"
)

// Load is nginx in a network namespace and the clients that call it.
type Load struct {
	Dir     string // for nginx's configuration and pid file
	Netns   string // "" for the caller's own
	Port    int
	Clients int    // connections wrk keeps trying to have
	Prober  string // the program that runs [Probe] inside the namespace, with its leading arguments
	Args    []string
}

const config = `daemon on; worker_processes 1; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 8192; }
http { access_log off; keepalive_timeout 0;
  client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fcgi;
  uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
  server { listen 127.0.0.1:%[2]d backlog=4096; location / { return 200 "ok\n"; } } }
`

// Start writes nginx's configuration and starts it.
func (l *Load) Start(ctx context.Context) error {
	nginx, err := workloads.Tool("nginx")
	if err != nil {
		return err
	}
	conf := filepath.Join(l.Dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, config, l.Dir, l.Port), 0o600); err != nil {
		return fmt.Errorf("write nginx configuration: %w", err)
	}
	out, err := workloads.Command(ctx, l.Netns, nginx, "-e", filepath.Join(l.Dir, "error.log"), "-c", conf).CombinedOutput()
	if err != nil {
		return fmt.Errorf("start nginx: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Stop ends nginx by its pid file.
func (l *Load) Stop() error {
	text, err := os.ReadFile(filepath.Join(l.Dir, "pid"))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read nginx pid: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("read nginx pid: %w", err)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && err != syscall.ESRCH {
		return fmt.Errorf("stop nginx: %w", err)
	}
	for range 50 {
		if syscall.Kill(pid, 0) == syscall.ESRCH {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

// Measure runs wrk for the load and throughput, and the probe for what a client waits.
func (l *Load) Measure(ctx context.Context, d time.Duration) (workloads.Sample, error) {
	wrk, err := workloads.Tool("wrk")
	if err != nil {
		return workloads.Sample{}, err
	}
	url := fmt.Sprintf("http://127.0.0.1:%d/", l.Port)
	probe := make(chan probed, 1)
	go func() {
		args := append(append([]string{}, l.Args...), strconv.Itoa(l.Port), d.String())
		out, err := workloads.Command(ctx, l.Netns, l.Prober, args...).Output()
		probe <- probed{out, err}
	}()
	start := time.Now()
	seconds := max(1, int(d.Round(time.Second)/time.Second))
	out, err := workloads.Command(ctx, l.Netns, wrk, "-t1", "-c"+strconv.Itoa(l.Clients),
		"-d"+strconv.Itoa(seconds)+"s", "-H", "Connection: close", url).CombinedOutput()
	p := <-probe
	if err != nil {
		return workloads.Sample{}, fmt.Errorf("run wrk: %w: %s", err, out)
	}
	if p.err != nil {
		return workloads.Sample{}, fmt.Errorf("run probe: %w", p.err)
	}
	s, err := ParseProbe(p.out)
	if err != nil {
		return workloads.Sample{}, err
	}
	s.Start, s.End = start, time.Now()
	s.Throughput, err = throughput(string(out))
	return s, err
}

type probed struct {
	out []byte
	err error
}

var perSecond = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)

func throughput(out string) (float64, error) {
	m := perSecond.FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("read wrk's result: no Requests/sec in %q", out)
	}
	return strconv.ParseFloat(m[1], 64)
}
