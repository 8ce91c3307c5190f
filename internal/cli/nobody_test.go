package cli

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// asNobody runs the binary without any rights.
func asNobody(t *testing.T, data string, args ...string) result {
	t.Helper()
	cmd := exec.Command(binary, append([]string{"--data-dir", data}, args...)...)
	cmd.Dir = "/"
	cmd.Env = []string{"HOME=" + data}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the status is read below
	return result{exit: cmd.ProcessState.ExitCode(), stdout: out.String(), stderr: errs.String()}
}

// reachable lets another user walk to the folders of this test.
func reachable(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		for ; dir != os.TempDir() && dir != "/" && dir != "."; dir = filepath.Dir(dir) {
			if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o011 != 0o011 {
				if err := os.Chmod(dir, info.Mode().Perm()|0o011); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
