package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"semantos/internal/tune"
)

// Record is one line of the log. Prev is the hash of the record before, zeros for the first one ever.
type Record struct {
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`
	Boot string    `json:"boot_id,omitempty"`
	Prev string    `json:"prev"`
	Entry
}

// Head names a record by its number and hash: who knows the head knows the whole log before it.
type Head struct {
	Seq  uint64 `json:"seq"`
	Hash string `json:"sha256"`
}

// String is what people note down: "412:9f86d0…".
func (h Head) String() string {
	if h.Seq == 0 {
		return ""
	}
	return strconv.FormatUint(h.Seq, 10) + ":" + h.Hash
}

// ParseHead reads "SEQ:HASH" or "HASH"; a hash may be cut to its first 12 digits.
func ParseHead(text string) (Head, error) {
	h := Head{Hash: text}
	seq, hash, both := strings.Cut(text, ":")
	if both {
		n, err := strconv.ParseUint(seq, 10, 64)
		if err != nil || n == 0 {
			return Head{}, headError(text)
		}
		h = Head{Seq: n, Hash: hash}
	}
	h.Hash = strings.ToLower(h.Hash)
	if len(h.Hash) < shortHash || len(h.Hash) > hashLen || strings.Trim(h.Hash, "0123456789abcdef") != "" {
		return Head{}, headError(text)
	}
	return h, nil
}

func headError(text string) error {
	return &tune.Error{Op: "read head", Subject: strconv.Quote(text), Err: fmt.Errorf("%w: not a head of the log", tune.ErrUsage),
		Hint: "give SEQ:HASH as history --verify and alerts print it, or the hash alone, at least 12 of its digits"}
}

const (
	hashLen   = 2 * sha256.Size
	shortHash = 12
	// maxLine bounds one line; a clipped entry with every byte escaped is below.
	maxLine = 512 << 10

	lineOpen  = `{"sha256":"`
	lineMid   = `","record":`
	lineClose = "}"
)

// origin is what the first record of all is chained to.
func origin() Head { return Head{Hash: strings.Repeat("0", hashLen)} }

// encode seals a record: the hash covers the exact bytes of its JSON, which hold the hash before.
func encode(r Record) (line []byte, hash string, err error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, "", fmt.Errorf("encode audit record: %w", err)
	}
	sum := sha256.Sum256(body)
	hash = hex.EncodeToString(sum[:])
	line = make([]byte, 0, len(lineOpen)+hashLen+len(lineMid)+len(body)+2)
	line = append(line, lineOpen...)
	line = append(line, hash...)
	line = append(line, lineMid...)
	line = append(line, body...)
	line = append(line, lineClose+"\n"...)
	if len(line) > maxLine {
		return nil, "", fmt.Errorf("encode audit record of %d bytes: %w", len(line), tune.ErrOutOfRange)
	}
	return line, hash, nil
}

// decode reads one line without its line end. Every byte of it counts: the frame is compared literally,
// the rest is under the hash.
func decode(line []byte) (Record, string, error) {
	frame := len(lineOpen) + hashLen + len(lineMid)
	if len(line) < frame+len(lineClose) || string(line[:len(lineOpen)]) != lineOpen ||
		string(line[frame-len(lineMid):frame]) != lineMid || !bytes.HasSuffix(line, []byte(lineClose)) {
		return Record{}, "", errors.New("it is no audit record")
	}
	said := string(line[len(lineOpen) : len(lineOpen)+hashLen])
	body := line[frame : len(line)-len(lineClose)]
	sum := sha256.Sum256(body)
	if hash := hex.EncodeToString(sum[:]); hash != said {
		return Record{}, "", fmt.Errorf("it was altered: its bytes have SHA-256 %.12s…, it says %.12q", hash, said)
	}
	var r Record
	if err := json.Unmarshal(body, &r); err != nil {
		return Record{}, "", fmt.Errorf("it is no audit record: %w", err)
	}
	if r.Seq == 0 || r.Kind == "" || len(r.Prev) != hashLen {
		return Record{}, "", errors.New("it lacks its number, its kind or the hash before")
	}
	return r, said, nil
}
