package neo4j

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// proxy stands between a store and a server and misbehaves as told.
type proxy struct {
	listener net.Listener
	target   string

	mu      sync.Mutex
	conns   map[net.Conn]bool
	delay   time.Duration  // before each piece of an answer
	garbage bool           // answers are random bytes
	swallow bool           // answers are thrown away
	cut     func(int) bool // whether to cut after so many bytes of answers on a connection
	refuse  bool           // connections are closed at once
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, target: target, conns: map[net.Conn]bool{}}
	t.Cleanup(func() { l.Close(); p.cutAll() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

func (p *proxy) uri() string { return "bolt://" + p.listener.Addr().String() }

func (p *proxy) set(change func(*proxy)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func (p *proxy) cutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

func (p *proxy) keep(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = true
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	p.keep(client)
	p.mu.Lock()
	refuse := p.refuse
	p.mu.Unlock()
	if refuse {
		return
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	p.keep(server)
	go func() {
		io.Copy(server, client)
		server.Close()
	}()
	random := rand.New(rand.NewPCG(5, 6))
	buf := make([]byte, 4096)
	total := 0
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		total += n
		p.mu.Lock()
		delay, garbage, swallow, cut := p.delay, p.garbage, p.swallow, p.cut != nil && p.cut(total)
		p.mu.Unlock()
		time.Sleep(delay)
		if garbage {
			for i := range n {
				buf[i] = byte(random.Uint32())
			}
		}
		if cut {
			return
		}
		if swallow {
			continue
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}
