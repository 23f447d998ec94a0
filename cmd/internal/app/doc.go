// Package app is the one place where a Dash node is wired: store, event feed,
// supervision tree, gateways, API. Start reads from top to bottom like a story;
// every started part registers its stop, and stops run in reverse order,
// bounded by time. It imports everybody and nobody imports it but the command.
package app
