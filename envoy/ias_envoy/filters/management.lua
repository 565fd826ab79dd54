-- Answers of the management API: what gRPC leaves behind in them is of no use to HTTP clients.
function envoy_on_response(handle)
  local headers = handle:headers()
  headers:remove("x-ias-http-status")
  if (headers:get("content-type") or ""):sub(1, 16) == "application/grpc" then return end
  headers:remove("grpc-accept-encoding")
  headers:remove("grpc-status")
  headers:remove("grpc-message")
  headers:remove("grpc-status-details-bin")
end
