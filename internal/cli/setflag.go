package cli

import (
	"strings"

	"semantos/internal/tune"
)

// setting is one --set NAME[@TARGET]=VALUE as typed.
type setting struct {
	Name, Target, Value string
}

// parseSetting splits at the last "=": a socket's target holds some of its own, no value does.
func parseSetting(text string) (setting, error) {
	i := strings.LastIndex(text, "=")
	if i <= 0 {
		return setting{}, usage("read --set", text, "write --set NAME=VALUE or --set NAME@TARGET=VALUE",
			"there is no value")
	}
	name, target, at := strings.Cut(text[:i], "@")
	s := setting{Name: strings.TrimSpace(name), Target: strings.TrimSpace(target), Value: strings.TrimSpace(text[i+1:])}
	switch {
	case s.Name == "":
		return setting{}, usage("read --set", text, "write --set NAME=VALUE", "there is no name")
	case at && s.Target == "":
		return setting{}, usage("read --set", text, "write --set NAME@TARGET=VALUE, or leave the @ out", "there is no target behind @")
	case s.Value == "":
		return setting{}, usage("read --set", text, "write --set NAME=VALUE", "there is no value")
	}
	return s, nil
}

// duplicate finds a change that an earlier one of the same bundle already makes.
func duplicate(changes []tune.Change) (tune.Change, bool) {
	seen := map[string]bool{}
	for _, c := range changes {
		key := c.Tunable + "\x00" + c.Target
		if seen[key] {
			return c, true
		}
		seen[key] = true
	}
	return tune.Change{}, false
}
