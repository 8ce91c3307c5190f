package cli

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestTableWrapsItsLastColumn(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	table(&b, []string{"NAME", "MEANING"}, [][]string{
		{"a", strings.Repeat("word ", 40)},
		{"a-longer-name", "short"},
	})
	for _, line := range strings.Split(b.String(), "\n") {
		if n := utf8.RuneCountInString(line); n > pageWidth {
			t.Errorf("line of %d columns: %q", n, line)
		}
		if strings.HasSuffix(line, " ") {
			t.Errorf("line ends in spaces: %q", line)
		}
	}
	if !strings.Contains(b.String(), "\n               word") {
		t.Errorf("continuation is not under its column:\n%s", b.String())
	}
}

func TestWrap(t *testing.T) {
	t.Parallel()
	got := wrap("one two three averyveryverylongword x", 9)
	if diff := cmp.Diff([]string{"one two", "three", "averyveryverylongword", "x"}, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{""}, wrap("  ", 9)); diff != "" {
		t.Error(diff)
	}
}

func TestQuantity(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		v          float64
		unit, want string
	}{
		{0, "", "0"}, {4120.4, "connections/s", "4120 connections/s"}, {0.5, "share", "50 %"},
		{1 << 20, "bytes", "1 MiB"}, {1536, "bytes/s", "1.5 KiB/s"}, {0.00123, "ms", "0.00123 ms"},
		{12.345, "ms", "12.35 ms"}, {-2, "", "-2"}, {1e9, "", "1e+09"},
	} {
		if got := quantity(c.v, c.unit); got != c.want {
			t.Errorf("quantity(%v, %q) = %q, want %q", c.v, c.unit, got, c.want)
		}
	}
}

func TestOneLineDisarmsTextFromOutside(t *testing.T) {
	t.Parallel()
	if got := oneLine("ngin\x1b[2Jx\n\u009bé"); got != "ngin?[2Jx??é" {
		t.Errorf("got %q", got)
	}
}

func TestByCount(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff([]string{"c", "a", "b"}, byCount(map[string]int{"a": 1, "b": 1, "c": 3})); diff != "" {
		t.Error(diff)
	}
}

func TestTableFitsANarrowTerminal(t *testing.T) {
	t.Parallel()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("needs a terminal device: ", err)
	}
	defer func() { _ = master.Close() }()
	for columns, want := range map[uint16]int{80: 80, 20: narrowest, 200: pageWidth, 0: pageWidth} {
		if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
			t.Fatal(err)
		}
		if got := pageOf(master); got != want {
			t.Errorf("a terminal of %d columns gives a page of %d, want %d", columns, got, want)
		}
	}
}
