"""The benchmark that runs a manifest of protocol tests: what passes, what is explained, what is counted."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = """
@prefix : <urn:tests#> .
@prefix mf: <http://www.w3.org/2001/sw/DataAccess/tests/test-manifest#> .
@prefix cnt: <http://www.w3.org/2011/content#> .
@prefix ht: <http://www.w3.org/2011/http#> .
<> a mf:Manifest ; mf:entries ( :ask :dataset :update :wrong ) .
:ask mf:action [ ht:requests ( [
  ht:methodName "POST" ; ht:absolutePath "/sparql/" ;
  ht:headers ( [ ht:fieldName "content-type" ; ht:fieldValue "application/sparql-query" ] ) ;
  ht:body [ cnt:characterEncoding "UTF-8" ; cnt:chars "ASK {}" ] ;
  ht:resp [ mf:expectedBoolean true ; mf:expectedFormat "boolean" ;
    mf:expectedStatus ht:StatusCode2xx ] ] ) ] .
:dataset mf:action [ ht:requests ( [
  ht:methodName "GET" ; ht:absolutePath "/sparql/?query=SELECT%20%2A%20%7B%7D&default-graph-uri=urn%3Ax" ;
  ht:resp [ mf:expectedFormat "tabular" ; mf:expectedStatus ht:StatusCode2xx ] ] ) ] .
:update mf:action [ ht:requests ( [
  ht:methodName "GET" ; ht:absolutePath "/sparql/?update=CLEAR%20ALL" ;
  ht:resp [ mf:expectedStatus ht:StatusCode4xx ] ] ) ] .
:wrong mf:action [ ht:requests ( [
  ht:methodName "GET" ; ht:absolutePath "/sparql/?query=ASK%20%7B%7D" ;
  ht:resp [ mf:expectedBoolean false ; mf:expectedFormat "boolean" ;
    mf:expectedStatus ht:StatusCode2xx ] ] ) ] .
"""


async def test_a_manifest_is_run_and_what_deviates_is_explained_or_counted(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.ttl"
    manifest.write_text(MANIFEST)

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.sparql_protocol", "--manifest", str(manifest)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await process.communicate()

    found = json.loads(told)
    assert (found["tests"], found["passed"], found["unexplained"]) == (4, 2, 1)
    dataset, wrong = found["deviations"]
    assert (dataset["test"], dataset["passes_without_its_dataset"]) == ("dataset", True)
    assert dataset["reason"] == "which graphs are asked is decided by who asks"
    assert (wrong["test"], wrong["found"]) == ("wrong", "expected false, found true")
