#!/usr/bin/env bash
# Fetch the page's libraries from npm into src/passerby/service/static/vendor, each with its licence; ECharts with its Sankey diagram alone.
set -euo pipefail
into=$(cd "$(dirname "$0")/../.." && pwd)/src/passerby/service/static/vendor
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$into" && cd "$work" && npm init -y >/dev/null
npm install --silent --no-fund --no-audit htmx.org@4.0.1 uplot@1.6.32 echarts@6.1.0 esbuild@0.28.2
cp node_modules/htmx.org/dist/htmx.min.js node_modules/htmx.org/dist/ext/hx-{sse,csp}.min.js "$into"
cp node_modules/htmx.org/LICENSE "$into/htmx.LICENSE"
cp node_modules/uplot/dist/uPlot.iife.min.js "$into/uplot.min.js"
cp node_modules/uplot/dist/uPlot.min.css "$into/uplot.min.css"
cp node_modules/uplot/LICENSE "$into/uplot.LICENSE"
cat >entry.js <<'END'
import * as echarts from "echarts/core";
import { SankeyChart } from "echarts/charts";
import { TooltipComponent } from "echarts/components";
import { CanvasRenderer } from "echarts/renderers";
echarts.use([SankeyChart, TooltipComponent, CanvasRenderer]);
window.echarts = { init: echarts.init, version: echarts.version };
END
npx esbuild entry.js --bundle --minify --format=iife --legal-comments=none --log-level=warning --outfile="$into/echarts.min.js"
cat node_modules/echarts/LICENSE node_modules/echarts/licenses/LICENSE-d3 node_modules/zrender/LICENSE node_modules/tslib/LICENSE.txt >"$into/echarts.LICENSE"
cp node_modules/echarts/NOTICE "$into/echarts.NOTICE"
sed -i '/^\/\/# sourceMappingURL=/d' "$into"/*.js
