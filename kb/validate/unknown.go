package validate

import (
	"fmt"

	"semantos/internal/tune"
)

func unknown(op, id, hint string) error {
	return &tune.Error{Op: op, Subject: fmt.Sprintf("%q", id), Err: tune.ErrUnknown, Hint: hint}
}

// UnknownNode is what a store answers to an id it has no node for.
func UnknownNode(id string) error {
	return unknown("find node", id, "look for the right name with semantos kb search")
}

// UnknownTrace is what a store answers to an id it has no trace for.
func UnknownTrace(id string) error {
	return unknown("find trace", id, "see semantos history for the ids there are")
}

// UnknownRecommendation is what a store answers to an id it has no recommendation for; near is the one
// stored id that begins like it, "" for none.
func UnknownRecommendation(id, near string) error {
	return unknown("find recommendation", id, meant(near, "run semantos recommend; ids change with the proposed values"))
}

// UnknownRollout is what a store answers to an id it has no rollout for; near as above.
func UnknownRollout(id, near string) error {
	return unknown("find rollout", id, meant(near, "see semantos history for the ids there are"))
}

func meant(near, hint string) string {
	if near == "" {
		return hint
	}
	return "did you mean " + near + "? Otherwise " + hint
}
