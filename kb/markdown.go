package kb

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"

	"semantos/internal/tune"
)

// WriteMarkdown prints the catalogue as the reference page: one table a domain, then the invariants.
func WriteMarkdown(w io.Writer, c *Catalogue) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "# Tunables\n\nGenerated from `kb/tunables/*.yaml`; do not edit. %d entries.\n", len(c.items))
	for _, domain := range c.domains() {
		fmt.Fprintf(b, "\n## %s\n\n", domain)
		fmt.Fprintln(b, "| tunable | scope | default | range | safe | takes effect | risk | what it does |")
		fmt.Fprintln(b, "| --- | --- | --- | --- | --- | --- | --- | --- |")
		for _, it := range c.items {
			if it.Domain == domain {
				fmt.Fprintln(b, row(it.Tunable))
			}
		}
	}
	fmt.Fprint(b, "\n## Invariants\n\n| invariant | over | says |\n| --- | --- | --- |\n")
	for _, inv := range c.invariants {
		fmt.Fprintf(b, "| %s | %s | %s |\n", inv.name, codes(inv.over), cell(inv.says))
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("write tunables page: %w", err)
	}
	return nil
}

func (c *Catalogue) domains() []string {
	var out []string
	seen := map[string]bool{}
	for _, it := range c.items {
		if !seen[it.Domain] {
			seen[it.Domain] = true
			out = append(out, it.Domain)
		}
	}
	return out
}

func row(t *tune.Tunable) string {
	says := t.Summary
	if t.Danger != "" {
		says += " " + t.Danger
	}
	if t.Protected {
		says += " (Never written by semantos.)"
	}
	risk := string(t.Risk)
	return fmt.Sprintf("| `%s` | %s | %s | %s | %s | %s | %s | %s (%s) |", t.Name, t.Scope,
		codes(plainWords(t.Default)), codes(hardText(t)), codes(safeText(t)), t.TakesEffect, risk, cell(says), cell(t.Source))
}

// hardText lists what the tunable takes: words, or one interval per element, with the sentinels.
func hardText(t *tune.Tunable) []string {
	var out []string
	out = append(out, t.Values...)
	for _, r := range t.Hard {
		out = append(out, tune.FormatNumber(r.Min)+".."+tune.FormatNumber(r.Max))
	}
	for _, s := range t.Specials {
		out = append(out, s.Value+" = "+s.Meaning)
	}
	return out
}

// plainWords takes the quotes from defaults that are one word.
func plainWords(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = s
		if word, err := strconv.Unquote(s); err == nil {
			out[i] = word
		}
	}
	return out
}

func safeText(t *tune.Tunable) []string {
	var out []string
	for _, s := range t.Safe {
		out = append(out, s.Min+".."+s.Max)
	}
	return out
}

func codes(list []string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = "`" + cell(s) + "`"
	}
	return strings.Join(out, " ")
}

// cell keeps a text inside its table cell.
func cell(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "|", "\\|"), "\n", " ")
}
