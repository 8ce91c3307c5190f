package host

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"semantos/internal/tune"
)

// TestKillsAreReadFromTheLog: lines as Linux 6.18 writes them; those of memory.oom.group from its source
// (mem_cgroup_print_oom_group), which a hierarchy of version 1 lacks.
func TestKillsAreReadFromTheLog(t *testing.T) {
	t.Parallel()
	const tail = " total-vm:118956kB, anon-rss:16128kB, file-rss:6676kB, shmem-rss:0kB, UID:0 pgtables:92kB oom_score_adj:0"
	event := func(group, pid string) string {
		return "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=" + group +
			",task_memcg=" + group + "/leaf,task=a b,pid=" + pid + ",uid=0"
	}
	killed := func(pid string) string {
		return "Memory cgroup out of memory: Killed process " + pid + " (a (b)" + ")" + tail
	}
	for _, tc := range []struct {
		name string
		log  []string
		want []Kill
	}{
		{"one", []string{"6,490,1,-;noise", "6,491,1,-;" + event("/g", "7"), "3,492,1,-;" + killed("7")}, []Kill{{492, "/g", 7, "a (b)"}}},
		{"a name with a comma in it", []string{"6,1,1,-;" + event("/a,pid=5", "7"), "3,2,1,-;" + killed("7")}, []Kill{{2, "/a,pid=5", 7, "a (b)"}}},
		{"the whole group", []string{"6,1,1,-;" + event("/g", "7"), "3,2,1,-;" + killed("7"),
			"6,3,1,-;Tasks in /g are going to be killed due to memory.oom.group set", "3,4,1,-;" + killed("8"), "3,5,1,-;" + killed("9")},
			[]Kill{{2, "/g", 7, "a (b)"}, {4, "/g", 8, "a (b)"}, {5, "/g", 9, "a (b)"}}},
		{"a host without memory", []string{"6,1,1,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/g,task=x,pid=7,uid=0",
			"3,2,1,-;Out of memory: Killed process 7 (x)" + tail}, nil},
		{"then another whose first line is held back", []string{"6,1,1,-;" + event("/g", "7"), "3,2,1,-;" + killed("7"), "3,3,1,-;" + killed("8"), "3,4,1,-;" + killed("7")},
			[]Kill{{2, "/g", 7, "a (b)"}}},
		{"a host without memory after a group", []string{"6,1,1,-;" + event("/g", "7"), "3,2,1,-;" + killed("7"),
			"6,3,1,-;Tasks in /g are going to be killed due to memory.oom.group set", "3,4,1,-;Out of memory: Killed process 7 (x)" + tail, "3,5,1,-;" + killed("8")},
			[]Kill{{2, "/g", 7, "a (b)"}}},
		{"a program's words", []string{"12,1,1,-;" + event("/g", "7"), "11,2,1,-;" + killed("7")}, nil},
		{"torn", []string{"", ";", "3,x,1,-;" + killed("7"), "6,1;" + event("/g", "7"), "6,1,1,-;oom-kill:constraint=CONSTRAINT_MEMCG,pid=", "3,2,1,-;" + killed("0")}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			if err := os.MkdirAll(filepath.Join(root, "dev"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, "dev/kmsg"), []byte(strings.Join(tc.log, "\n SUBSYSTEM=x\n")), 0o644); err != nil {
				t.Fatal(err)
			}
			if got, err := New(Config{Root: root}).Kills(); err != nil || !reflect.DeepEqual(got, tc.want) {
				t.Errorf("%+v, %v, want %+v", got, err, tc.want)
			}
		})
	}
	if _, err := New(Config{Root: t.TempDir()}).Kills(); err == nil {
		t.Error("a host without a log has none to tell of")
	}
}

// TestBelow is by whole names.
func TestBelow(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		group, in string
		want      bool
	}{{"/a", "/a", true}, {"/a/b", "/a", true}, {"/ab", "/a", false}, {"/a", "/a/b", false}, {"/a", "/", true}} {
		if got := tune.Below(tc.group, tc.in); got != tc.want {
			t.Errorf("%s in %s: %v", tc.group, tc.in, got)
		}
	}
}
