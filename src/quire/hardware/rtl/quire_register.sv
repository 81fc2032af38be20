// Copyright the Quire authors. The RTL that Quire emits belongs to whoever emits it.
//
// A register for valid and data; ready passes through, which a quire_slice would cut too.
//
// Latency: 1 cycle. Interval: 1 cycle. Registered: valid and data.
module quire_register #(
  parameter int unsigned WIDTH = 8
) (
  input  logic             clk_i,
  input  logic             rst_ni,

  input  logic             in_valid_i,
  output logic             in_ready_o,
  input  logic [WIDTH-1:0] in_data_i,

  output logic             out_valid_o,
  input  logic             out_ready_i,
  output logic [WIDTH-1:0] out_data_o
);
  if (WIDTH == 0) begin : gen_check_width
    $error("quire_register: WIDTH is at least 1");
  end

  logic             valid_q;
  logic [WIDTH-1:0] data_q;

  assign in_ready_o  = !valid_q || out_ready_i;
  assign out_valid_o = valid_q;
  assign out_data_o  = data_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) valid_q <= 1'b0;
    else if (in_ready_o) valid_q <= in_valid_i;
    if (in_valid_i && in_ready_o) data_q <= in_data_i;
  end

`ifndef SYNTHESIS
  logic             held_q;
  logic [WIDTH-1:0] held_data_q;
  always_ff @(posedge clk_i) begin
    held_q      <= rst_ni && out_valid_o && !out_ready_i;
    held_data_q <= out_data_o;
    if (rst_ni && held_q) begin
      a_stable : assert (out_valid_o && out_data_o == held_data_q);
    end
  end
`endif
endmodule
