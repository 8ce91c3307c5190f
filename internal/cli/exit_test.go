package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"semantos/internal/tune"
)

func TestExitStatus(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("anything"), 1},
		{tune.ErrBusy, 1}, {tune.ErrStorage, 1}, {tune.ErrCorrupt, 1}, {tune.ErrNoData, 1}, {tune.ErrStarting, 1}, {tune.ErrGone, 1}, {tune.ErrDrifted, 1},
		{tune.ErrUnknown, 2}, {tune.ErrType, 2}, {tune.ErrOutOfRange, 2}, {tune.ErrInvariant, 2}, {tune.ErrStale, 2},
		{tune.ErrUsage, 2}, {tune.ErrDenied, 2},
		{tune.ErrVetoed, 3}, {tune.ErrConflict, 3},
		{tune.ErrNotPermitted, 4}, {tune.ErrReadOnly, 4}, {tune.ErrUnsupported, 4},
		{statusError{exit: 3}, 3},
	} {
		err := c.err
		if err != nil {
			err = fmt.Errorf("do something: %w", &tune.Error{Op: "write", Subject: "vm.x", Err: c.err})
		}
		if got := exitOf(err); got != c.want {
			t.Errorf("exit status of %v is %d, want %d", c.err, got, c.want)
		}
	}
}

func TestReportPrintsOneSentenceOneHintOneDocument(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	err := fmt.Errorf("apply: %w", &tune.Error{Op: "write", Subject: "vm.swappiness", Err: tune.ErrOutOfRange, Hint: "give 0 to 200"})
	if got := report(&out, &errs, true, err); got != exitUsage {
		t.Errorf("exit status %d", got)
	}
	want := "semantos: apply: write vm.swappiness: out of range\nTry: give 0 to 200\n"
	if errs.String() != want {
		t.Errorf("stderr %q, want %q", errs.String(), want)
	}
	var doc errorDocument
	if err := json.Unmarshal(out.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Error != (errorBody{Message: "apply: write vm.swappiness: out of range", Subject: "vm.swappiness", Hint: "give 0 to 200", Exit: 2}) {
		t.Errorf("document %+v", doc)
	}
}

func TestReportIsSilentWhereTheDocumentIsPrinted(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	if got := report(&out, &errs, true, statusError{exit: exitVetoed}); got != exitVetoed || out.Len()+errs.Len() > 0 {
		t.Errorf("exit %d, stdout %q, stderr %q", got, out.String(), errs.String())
	}
}

func TestEveryOutcomeSaysWhatToTry(t *testing.T) {
	t.Parallel()
	for _, o := range outcomes() {
		if o.exit != exitFailed && o.hint == "" {
			t.Errorf("%v has no hint", o.err)
		}
		if strings.HasPrefix(o.hint, "Try") || strings.HasSuffix(o.hint, ".") {
			t.Errorf("hint %q repeats what is printed around it", o.hint)
		}
	}
}
