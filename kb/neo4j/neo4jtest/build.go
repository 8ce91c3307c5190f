package neo4jtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

//go:embed server/pom.xml server/TestServer.java
var sources embed.FS

// errOffline says that what is missing could not be fetched.
var errOffline = errors.New("Maven Central is out of reach")

// buildLimit bounds fetching 200 jars (120 MB) over a slow line.
const buildLimit = 10 * time.Minute

// missingTools names what is not installed, "" when all is.
func missingTools() string {
	for _, tool := range []struct{ command, pkg string }{
		{"java", "openjdk-17-jdk-headless"}, {"javac", "openjdk-17-jdk-headless"}, {"mvn", "maven"}} {
		if _, err := exec.LookPath(tool.command); err != nil {
			return fmt.Sprintf("%s is not installed (package %s)", tool.command, tool.pkg)
		}
	}
	return ""
}

// build gives the class path of the server. The first use on a machine fetches and compiles, later ones
// are offline; the name of the directory is a hash of the sources. Processes wait for each other.
func build() (classpath string, err error) {
	hash := sha256.New()
	for _, name := range []string{"pom.xml", "TestServer.java"} {
		data, err := sources.ReadFile("server/" + name)
		if err != nil {
			return "", err
		}
		hash.Write(data)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	base := filepath.Join(cache, "semantos-test")
	if err := os.MkdirAll(base, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(base, "neo4j.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	dir := filepath.Join(base, "neo4j-"+hex.EncodeToString(hash.Sum(nil)[:6]))
	classpath = filepath.Join(dir, "jars", "*") + string(os.PathListSeparator) + filepath.Join(dir, "classes")
	if _, err := os.Stat(dir); err == nil {
		return classpath, nil
	}
	aside := dir + ".new"
	if err := os.RemoveAll(aside); err != nil {
		return "", err
	}
	if err := fetch(aside); err != nil {
		return "", err
	}
	return classpath, os.Rename(aside, dir)
}

func fetch(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"pom.xml", "TestServer.java"} {
		data, err := sources.ReadFile("server/" + name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
	}
	jars := filepath.Join(dir, "jars")
	if err := tool(dir, "mvn", "-q", "-B", "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies",
		"-DoutputDirectory="+jars); err != nil {
		return err
	}
	return tool(dir, "javac", "-cp", filepath.Join(jars, "*"), "-d", filepath.Join(dir, "classes"), "TestServer.java")
}

func tool(dir, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), buildLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	for _, sign := range []string{"Could not transfer artifact", "UnknownHostException", "Unknown host", "Connection timed out"} {
		if bytes.Contains(out, []byte(sign)) {
			return fmt.Errorf("%w, and the first use fetches Neo4j from there: %s", errOffline, firstLine(out))
		}
	}
	return fmt.Errorf("run %s: %w: %s", name, err, out)
}

func firstLine(out []byte) []byte {
	line, _, _ := bytes.Cut(bytes.TrimSpace(out), []byte("\n"))
	return line[:min(len(line), 300)]
}
