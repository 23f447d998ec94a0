// Package persistence is the storage contract of Dash: Store for whatever an
// owner writes under a fence, Repositories for configuration and accounts.
// Engines live in sub-packages and pass one conformance suite, storetest.
package persistence
