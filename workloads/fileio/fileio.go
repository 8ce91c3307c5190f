// Package fileio is fio reading or writing a file through the page cache, as a backup or a log does.
//
// It must not change tunables, and removes its file. Read [Load.Measure] first.
package fileio

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"semantos/workloads"
)

// Load is one fio job, opened anew for each measurement.
type Load struct {
	Dir    string // on the file system under test
	Write  bool   // buffered sequential writes; otherwise sequential reads of an uncached file
	SizeMB int
}

func (l *Load) file() string { return filepath.Join(l.Dir, "semantos-fio") }

// Start lays out the file that reads need.
func (l *Load) Start(ctx context.Context) error {
	fio, err := workloads.Tool("fio")
	if err != nil {
		return err
	}
	out, err := workloads.Command(ctx, "", fio, "--name=layout", "--filename="+l.file(), "--rw=write", "--bs=1m",
		"--direct=1", fmt.Sprintf("--size=%dm", l.SizeMB), "--end_fsync=1", "--output-format=json").CombinedOutput()
	if err != nil {
		return fmt.Errorf("lay out fio's file: %w: %s", err, out)
	}
	return nil
}

// Stop removes the file.
func (l *Load) Stop() error {
	if err := os.Remove(l.file()); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove fio's file: %w", err)
	}
	return nil
}

type side struct {
	IOPS float64 `json:"iops"`
	Clat struct {
		Mean       float64            `json:"mean"`
		Percentile map[string]float64 `json:"percentile"`
	} `json:"clat_ns"`
}

type report struct {
	Jobs []struct {
		Error int  `json:"error"`
		Read  side `json:"read"`
		Write side `json:"write"`
	} `json:"jobs"`
}

// Measure runs the job for d. Reads start with the file's pages dropped from the cache.
func (l *Load) Measure(ctx context.Context, d time.Duration) (workloads.Sample, error) {
	fio, err := workloads.Tool("fio")
	if err != nil {
		return workloads.Sample{}, err
	}
	rw := "read"
	if l.Write {
		rw = "write"
	}
	start := time.Now()
	out, err := workloads.Command(ctx, "", fio, "--name=load", "--thread", "--filename="+l.file(), "--rw="+rw, "--bs=64k",
		"--ioengine=sync", "--direct=0", "--invalidate=1", fmt.Sprintf("--size=%dm", l.SizeMB), "--time_based",
		"--runtime="+strconv.Itoa(max(1, int(d.Seconds()))), "--output-format=json").Output()
	if err != nil {
		return workloads.Sample{}, fmt.Errorf("run fio: %w: %s", err, out)
	}
	var r report
	if err := json.Unmarshal(out, &r); err != nil || len(r.Jobs) != 1 || r.Jobs[0].Error != 0 {
		return workloads.Sample{}, fmt.Errorf("read fio's result: %w: %s", err, out)
	}
	s := r.Jobs[0].Read
	if l.Write {
		s = r.Jobs[0].Write
	}
	if s.IOPS <= 0 {
		return workloads.Sample{}, fmt.Errorf("read fio's result: no operation finished")
	}
	pct := func(p string) float64 { return s.Clat.Percentile[p] / 1e6 }
	return workloads.Sample{Start: start, End: time.Now(), MedianMS: pct("50.000000"), P95MS: pct("95.000000"),
		P99MS: pct("99.000000"), Throughput: s.IOPS}, nil
}
