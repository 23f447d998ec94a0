// Package rows is how engines encode what they store as bytes. The encodings
// are part of every store: fields are added, never changed.
package rows
