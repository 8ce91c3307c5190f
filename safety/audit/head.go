package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

// kept is the head as it lies in the run folder: it does not outlive the boot, and on that boot it shows
// when the log's end, or all of it, was taken away.
type kept struct {
	Head
	Lost    uint64 `json:"lost,omitempty"` // records not kept, of which no gap record tells yet
	DataDir string `json:"data_dir"`
}

// HeadPath is where the head of a data folder's log lies in the run folder.
func HeadPath(runDir, dataDir string) string {
	return filepath.Join(runDir, fmt.Sprintf("audit-%08x.head", crc32.ChecksumIEEE([]byte(dataDir))))
}

// readHead gives what the run folder knows; none is no error, for none is kept over a boot.
func readHead(path string) (kept, bool, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return kept{}, false, nil
	}
	if err != nil {
		return kept{}, false, err
	}
	var k kept
	if err := json.Unmarshal(data, &k); err != nil || k.Seq > 0 && len(k.Hash) != hashLen {
		return kept{}, false, fmt.Errorf("read %s: it is no head of the audit log", path)
	}
	return k, k.Seq > 0, nil
}

// RunAnchor gives the head kept in the run folder, for [Verify].
func RunAnchor(path string) (anchors []Anchor, err error) {
	k, ok, err := readHead(path)
	if !ok || err != nil {
		return nil, err
	}
	return []Anchor{{Head: k.Head, Where: path}}, nil
}
