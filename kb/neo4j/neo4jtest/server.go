package neo4jtest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"
)

// User and Pass are what every server here asks for.
const (
	User = "neo4j"
	Pass = "a-secret-for-tests"
)

// readyLimit bounds a start on a busy machine; 7 s are usual.
const readyLimit = 2 * time.Minute

// Server is one Neo4j with its own data. Its methods are for one goroutine.
type Server struct {
	Addr      string // 127.0.0.1:port
	classpath string
	data      string
	steady    bool
	cmd       *exec.Cmd
	stdin     io.WriteCloser
	stderr    *bytes.Buffer
}

// Shared is one server for all tests of a binary; its zero value is ready. Tests that use it are not
// parallel, and the data of the ones before is still there: see [Server.Wipe]. It ends with the process.
type Shared struct {
	Steady bool // let it compile itself well: slower to start, faster in a benchmark
	once   sync.Once
	server *Server
	err    error
}

// Server gives the running server, starting it when needed, or skips the test with the reason.
func (s *Shared) Server(t testing.TB) *Server {
	t.Helper()
	skipWithoutTools(t)
	s.once.Do(func() {
		var dir string
		if dir, s.err = os.MkdirTemp("", "semantos-neo4j-"); s.err == nil {
			s.server, s.err = start(dir, s.Steady)
		}
	})
	started(t, s.err)
	if s.server.cmd == nil {
		s.server.Restart(t)
	}
	return s.server
}

// Stop ends the shared server, if it was started, and removes its data; for TestMain.
func (s *Shared) Stop() {
	if s.server != nil {
		s.server.Kill()
		os.RemoveAll(s.server.data)
	}
}

// Start gives a server of the test's own.
func Start(t testing.TB) *Server {
	t.Helper()
	skipWithoutTools(t)
	s, err := start(t.TempDir(), false)
	started(t, err)
	t.Cleanup(s.Kill)
	return s
}

func started(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, errOffline) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatalf("start neo4j: %v", err)
	}
}

func skipWithoutTools(t testing.TB) {
	t.Helper()
	if what := missingTools(); what != "" {
		t.Skip(what)
	}
}

func start(data string, steady bool) (*Server, error) {
	classpath, err := build()
	if err != nil {
		return nil, err
	}
	addr, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	s := &Server{Addr: addr, classpath: classpath, data: data, steady: steady}
	return s, s.launch()
}

// FreeAddr gives a loopback address nobody listens on.
func FreeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func (s *Server) launch() error {
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return err
	}
	// Serial collection: few threads. The first compiler only, where the server's life is short.
	args := []string{"-XX:+UseSerialGC", "-Xmx768m", "-cp", s.classpath, "TestServer", s.data, port}
	if !s.steady {
		args = append([]string{"-XX:TieredStopAtLevel=1"}, args...)
	}
	cmd := exec.Command("java", args...)
	s.stderr = &bytes.Buffer{}
	cmd.Stderr = s.stderr
	if s.stdin, err = cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd = cmd
	if _, err := io.WriteString(s.stdin, Pass+"\n"); err != nil {
		return err
	}
	timer := time.AfterFunc(readyLimit, func() { cmd.Process.Kill() })
	defer timer.Stop()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == "READY" {
			go io.Copy(io.Discard, out)
			return nil
		}
	}
	s.Kill()
	return fmt.Errorf("it did not come up: %s", strings.TrimSpace(s.stderr.String()))
}

// URI is where it listens.
func (s *Server) URI() string { return "bolt://" + s.Addr }

// Port is the number in Addr.
func (s *Server) Port() int {
	_, port, _ := net.SplitHostPort(s.Addr)
	n, _ := strconv.Atoi(port)
	return n
}

// Kill ends it as a power cut would (SIGKILL). Killing it again does nothing.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill()
	s.cmd.Wait()
	s.cmd = nil
}

// Restart starts a killed server again on the same address and data.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if err := s.launch(); err != nil {
		t.Fatalf("restart neo4j: %v", err)
	}
}

// Query runs one statement as an administrator, and gives its records' values.
func (s *Server) Query(t testing.TB, cypher string, params map[string]any) [][]any {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), readyLimit)
	defer cancel()
	driver, err := neo4j.NewDriverWithContext(s.URI(), neo4j.BasicAuth(User, Pass, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer driver.Close(ctx)
	session := driver.NewSession(ctx, neo4j.SessionConfig{})
	defer session.Close(ctx)
	res, err := session.Run(ctx, cypher, params)
	if err != nil {
		t.Fatalf("%s: %v", cypher, err)
	}
	records, err := res.Collect(ctx)
	if err != nil {
		t.Fatalf("%s: %v", cypher, err)
	}
	out := make([][]any, len(records))
	for i, r := range records {
		out[i] = r.Values
	}
	return out
}

// Wipe deletes all data; constraints and indexes stay.
func (s *Server) Wipe(t testing.TB) {
	t.Helper()
	s.Query(t, "MATCH (n) CALL (n) { DETACH DELETE n } IN TRANSACTIONS OF 5000 ROWS", nil)
}
