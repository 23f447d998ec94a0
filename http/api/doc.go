// Package api is the public JSON form of Dash: the OpenAPI document, which is
// the law, the types generated from it, and a client. It guarantees that the
// types fit the document (they are generated, and `go generate` reproduces
// them) and holds no state and no goroutine.
package api

import _ "embed"

//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -config oapi-codegen.yaml openapi.yaml

// Document is the OpenAPI document as YAML.
//
//go:embed openapi.yaml
var Document []byte
