// Package operatorv1 is the operators' API as generated code, with its OpenAPI document.
package operatorv1

import _ "embed"

// OpenAPI is the OpenAPI 2 document of the REST API, generated from operator.proto and operator.rest.yaml.
//
//go:embed operator.swagger.json
var OpenAPI []byte
