// Command fsync measures what the disk below the temporary folder takes to make
// one small append durable: 1,000 times 4 KiB and fsync, one after the other.
// Every durable figure of the benchmarks is a multiple of it.
package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

const (
	rounds    = 1000
	blockSize = 4096
)

func main() {
	if err := run(os.Stdout, os.TempDir()); err != nil {
		fmt.Fprintln(os.Stderr, "fsync:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, dir string) (err error) {
	f, err := os.CreateTemp(dir, "fsync-")
	if err != nil {
		return err
	}
	defer func() {
		if rmErr := os.Remove(f.Name()); err == nil {
			err = rmErr
		}
	}()
	took := make([]time.Duration, rounds)
	block := make([]byte, blockSize)
	for i := range took {
		start := time.Now()
		if _, err := f.Write(block); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		took[i] = time.Since(start)
	}
	slices.Sort(took)
	_, err = fmt.Fprintf(w, "fsync of %d bytes in %s: p50 %v, p99 %v, max %v\n",
		blockSize, dir, took[rounds/2], took[rounds*99/100], took[rounds-1])
	return err
}
