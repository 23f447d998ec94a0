// Command testcount runs "go test -json" with its arguments, prints one line
// per package, the full output of whatever failed, and as its last line
//
//	N passed, N failed, N skipped
//
// which counts tests and subtests that have no subtests of their own, and a
// package that fails outside any test as one failure. It exits as go test did,
// or with 69 when a failing test said "infrastructure missing: …", which is no
// verdict on the code.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// exitMissing is the exit code for missing infrastructure.
const exitMissing = 69

func main() {
	code, err := run(os.Args[1:], os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testcount:", err)
	}
	os.Exit(code)
}

func run(args []string, stdout, stderr io.Writer) (int, error) {
	cmd := exec.Command("go", goTest(args)...)
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 1, err
	}
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	c := newCounter(stdout)
	readErr := c.read(out)
	waitErr := cmd.Wait()
	c.finish()
	var exit *exec.ExitError
	switch {
	case c.failed > 0 && c.missing != "":
		return exitMissing, readErr
	case errors.As(waitErr, &exit):
		return max(1, exit.ExitCode()), readErr
	case waitErr != nil:
		return 1, waitErr
	case readErr != nil || c.failed > 0:
		return 1, readErr
	}
	return 0, nil
}

// goTest puts -json where go test accepts it: -C has to stay the first flag.
func goTest(args []string) []string {
	if len(args) > 1 && args[0] == "-C" {
		return append([]string{"-C", args[1], "test", "-json"}, args[2:]...)
	}
	return append([]string{"test", "-json"}, args...)
}
