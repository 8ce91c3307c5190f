package guard

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"semantos/internal/tune"
	"semantos/safety/journal"
	"semantos/safety/journal/journaltest"
)

func TestInspectReadsOnly(t *testing.T) {
	t.Parallel()
	data, run := t.TempDir(), t.TempDir()
	if m, err := Inspect(data, run, "b"); err != nil || len(m) != 0 {
		t.Errorf("nothing yet: %v, %v", m, err)
	}
	bytesOf, ends := journaltest.Bytes(t, journaltest.Records())
	if err := (journal.HostDisk{}).Replace(journal.Path(data), bytesOf[:ends[2]-1], 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := Inspect(data, run, "b")
	if err != nil || len(m) != 1 || m[0].State != "in_doubt" || m[0].Original != "5" || m[0].Current != "48" {
		t.Errorf("%+v, %v", m, err)
	}
	bytesOf[ends[0]+50] ^= 1
	if err := (journal.HostDisk{}).Replace(journal.Path(data), bytesOf, 0o600); err != nil {
		t.Fatal(err)
	}
	m, err = Inspect(data, run, "b")
	if !errors.Is(err, tune.ErrCorrupt) || len(m) != 1 || m[0].State != "committed" {
		t.Errorf("damaged: %+v, %v", m, err)
	}
	if undo, _ := InspectUndo(data, run, "b", ""); len(undo) != 1 || undo[0].Proposed != "5" {
		t.Errorf("undo: %+v", undo)
	}
	if m, _ := Inspect(data, run, "another boot"); len(m) != 0 {
		t.Errorf("after a boot: %+v", m)
	}
	after, err := os.ReadFile(journal.Path(data))
	if err != nil || !bytes.Equal(after, bytesOf) {
		t.Error("inspecting wrote")
	}
}
