package neo4j

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"semantos/kb/kbtest"
)

// TestAnswersThatAreNoBolt lets a server shake hands properly and then answer everything with one
// message. None may end the process, or keep anybody waiting.
func TestAnswersThatAreNoBolt(t *testing.T) {
	t.Parallel()
	lim := quick()
	lim.open, lim.connect, lim.read = time.Second, time.Second, time.Second
	for name, message := range map[string][]byte{
		"a number":             {0x01},
		"text":                 {0x81, 'x'},
		"nothing":              {0xc0},
		"a list":               {0x91, 0x01},
		"a map":                {0xa1, 0x81, 'k', 0x01},
		"an unknown structure": {0xb1, 0x55, 0x01},
		"an empty structure":   {0xb0},
		"a record":             {0xb1, 0x71, 0x91, 0x01},
		"a record of no list":  {0xb1, 0x71, 0x01},
		"ignored":              {0xb0, 0x7e},
		"failure of no map":    {0xb1, 0x7f, 0x01},
		"failure of nothing":   {0xb1, 0x7f, 0xa0},
		"success of no map":    {0xb1, 0x70, 0x01},
		"success of nothing":   {0xb1, 0x70, 0xa0},
		"success that lies":    {0xb1, 0x70, 0xa1, 0x86, 's', 'e', 'r', 'v', 'e', 'r', 0x2a},
		"a node":               {0xb3, 0x4e, 0x01, 0x90, 0xa0},
		"cut text":             {0xd2, 0x00, 0x00, 0xff, 0xff, 'x'},
		"cut list":             {0xd6, 0x00, 0x00, 0x10, 0x00, 0x01},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s *Store
			bounded(t, "opening", 5*time.Second, func() { s = openWith(t, configOf("bolt://"+fakeBolt(t, message), t.TempDir()), lim) })
			bounded(t, "writing", 2*time.Second, func() { save(t, s, kbtest.Batch(1)) })
			bounded(t, "reading", 2*time.Second, func() {
				if nodes, err := s.Nodes(t.Context()); err != nil || len(nodes) != 3 {
					t.Errorf("got %v, %v", nodes, err)
				}
			})
			if st := s.State(); st.Status == OK || st.Queued != 1 || st.Reason == "" {
				t.Errorf("got %+v", st)
			}
		})
	}
}

// fakeBolt gives the address of a server that chooses Bolt 4.4 and answers each message with one.
func fakeBolt(t *testing.T, message []byte) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answer(c, message)
		}
	}()
	return l.Addr().String()
}

func answer(c net.Conn, message []byte) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(c, make([]byte, 20)); err != nil {
		return
	}
	c.Write([]byte{0, 0, 4, 4})
	reply := binary.BigEndian.AppendUint16(nil, uint16(len(message)))
	reply = append(append(reply, message...), 0, 0)
	for {
		size := make([]byte, 2)
		if _, err := io.ReadFull(c, size); err != nil {
			return
		}
		if n := binary.BigEndian.Uint16(size); n > 0 {
			if _, err := io.CopyN(io.Discard, c, int64(n)); err != nil {
				return
			}
		} else if _, err := c.Write(reply); err != nil {
			return
		}
	}
}
