// Command statistics plays the simulations of docs/statistics.md and writes their tables and plot:
//
//	go run ./internal/gen/statistics docs
//
// It takes some minutes. Equal code gives equal bytes.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "statistics:", err)
		os.Exit(1)
	}
}

const (
	page, picture = "statistics.md", "statistics.svg"
	begin, end    = "<!-- simulated: go run ./internal/gen/statistics docs -->\n", "<!-- end of what is simulated -->\n"
)

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("give the directory to write to, such as docs")
	}
	path := filepath.Join(args[0], page)
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(text), begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		return fmt.Errorf("%s has no place for the tables", path)
	}
	var out bytes.Buffer
	out.WriteString(before + begin)
	points, err := writeTables(&out)
	if err != nil {
		return err
	}
	out.WriteString(end + after)
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(args[0], picture), plot(points), 0o644)
}
