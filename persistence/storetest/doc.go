// Package storetest is the conformance suite of package persistence. Every
// engine runs it from a test of its own; what it does not check is not part of
// the contract.
package storetest
