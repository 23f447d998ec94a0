//go:build !race

package main

const (
	raceFactor = 1
	manyAtOnce = 100
)
