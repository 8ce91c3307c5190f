package journal_test

import (
	"testing"
	"time"

	"semantos/safety/journal"
	"semantos/safety/journal/journaltest"
)

// A guard killed between the journal and the copy leaves a copy without the newest record: what it has of before
// is not told over it.
func TestAnOlderCopyTakesNothingBack(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 1, 0, time.UTC)
	first := []journal.File{{Path: "/etc/sysctl.d/a.conf", Content: "x"}}
	then := []journal.File{{Path: "/etc/sysctl.d/a.conf", Content: "y"}}
	recs := append(journaltest.Records(),
		journal.Record{Kind: journal.Persisting, Time: at, Rollout: "r1", Files: first},
		journal.Record{Kind: journal.Persisted, Time: at.Add(1), Rollout: "r1", Files: first},
		journal.Record{Kind: journal.Releasing, Time: at.Add(2), Rollout: "r1", Tunable: "q.plain", Target: "host", Files: then},
		journal.Record{Kind: journal.Released, Time: at.Add(3), Rollout: "r1", Files: then},
		journal.Record{Kind: journal.Unpersisted, Time: at.Add(4), Rollout: "r1"})
	for n := range recs {
		main := journal.Scanned{Records: recs[:n+1]}
		want := journal.Load(main, nil, "/data").Rollouts["r1"]
		for have := 1; have <= n+1; have++ {
			got := journal.Load(main, []journal.Copy{{DataDir: "/data", Records: recs[:have]}}, "/data").Rollouts["r1"]
			if got.Persisting != want.Persisting || got.Persisted != want.Persisted || len(got.Files) != len(want.Files) ||
				len(got.Files) > 0 && got.Files[0].Content != want.Files[0].Content {
				t.Errorf("journal up to %s, copy up to %s: %+v", recs[n].Kind, recs[have-1].Kind, got)
			}
		}
	}
	lost := journal.Load(journal.Scanned{Records: recs[1:3]}, []journal.Copy{{DataDir: "/data", Records: recs[:3]}}, "/data").Rollouts["r1"]
	if lost == nil || !lost.Committed {
		t.Errorf("with its intent lost to the journal: %+v", lost)
	}
}
