//go:build race

package main

const (
	// raceFactor is how much more memory a program takes under the race detector, at most.
	raceFactor = 6
	// manyAtOnce are more than there is room for; the detector makes each of them slow.
	manyAtOnce = 20
)
