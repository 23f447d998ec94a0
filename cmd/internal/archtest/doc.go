// Package archtest holds tests of the repository as a whole: who may import
// whom. It has no code of its own.
package archtest
