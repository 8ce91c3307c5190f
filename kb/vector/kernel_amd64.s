#include "textflag.h"

// Four rows of int8 codes against one int16 query. AX counts elements, CX is the width (a multiple
// of 32), SI the query, R8..R11 the rows, Y0..Y3 the sums.
#define STEP(off) \
	VMOVDQU   (off*2)(SI)(AX*2), Y4; \
	VPMOVSXBW off(R8)(AX*1), Y5;     \
	VPMOVSXBW off(R9)(AX*1), Y6;     \
	VPMOVSXBW off(R10)(AX*1), Y7;    \
	VPMOVSXBW off(R11)(AX*1), Y8;    \
	VPMADDWD  Y4, Y5, Y5;            \
	VPMADDWD  Y4, Y6, Y6;            \
	VPMADDWD  Y4, Y7, Y7;            \
	VPMADDWD  Y4, Y8, Y8;            \
	VPADDD    Y5, Y0, Y0;            \
	VPADDD    Y6, Y1, Y1;            \
	VPADDD    Y7, Y2, Y2;            \
	VPADDD    Y8, Y3, Y3

#define CLEAR \
	VPXOR Y0, Y0, Y0; \
	VPXOR Y1, Y1, Y1; \
	VPXOR Y2, Y2, Y2; \
	VPXOR Y3, Y3, Y3; \
	XORQ  AX, AX

// The four sums of eight lanes become four int32 in X0.
#define FOLD \
	VPHADDD      Y1, Y0, Y0;  \
	VPHADDD      Y3, Y2, Y2;  \
	VPHADDD      Y2, Y0, Y0;  \
	VEXTRACTI128 $1, Y0, X1;  \
	VPADDD       X1, X0, X0

// func scanAVX2(q *int16, codes *int8, width, groups int, qscale float32, scale, slack, out *float32)
TEXT ·scanAVX2(SB), NOSPLIT, $0-64
	MOVQ         q+0(FP), SI
	MOVQ         codes+8(FP), R8
	MOVQ         width+16(FP), CX
	MOVQ         groups+24(FP), BX
	VBROADCASTSS qscale+32(FP), X15
	MOVQ         scale+40(FP), R12
	MOVQ         slack+48(FP), R13
	MOVQ         out+56(FP), DI

scanGroup:
	LEAQ (R8)(CX*1), R9
	LEAQ (R9)(CX*1), R10
	LEAQ (R10)(CX*1), R11
	CLEAR

scanStep:
	STEP(0)
	STEP(16)
	ADDQ $32, AX
	CMPQ AX, CX
	JLT  scanStep

	FOLD
	VCVTDQ2PS X0, X0
	VMULPS    X15, X0, X0
	VMULPS    (R12), X0, X0
	VADDPS    (R13), X0, X0
	VMOVUPS   X0, (DI)
	ADDQ      $16, R12
	ADDQ      $16, R13
	ADDQ      $16, DI
	LEAQ      (R11)(CX*1), R8
	DECQ      BX
	JNZ       scanGroup
	VZEROUPPER
	RET

// One turn of 32 elements for four rows in 512-bit registers; VPDPWSSD multiplies and adds at once.
#define STEP512 \
	VMOVDQU32 (SI)(AX*2), Z4;   \
	VPMOVSXBW (R8)(AX*1), Z5;   \
	VPMOVSXBW (R9)(AX*1), Z6;   \
	VPMOVSXBW (R10)(AX*1), Z7;  \
	VPMOVSXBW (R11)(AX*1), Z8;  \
	VPDPWSSD  Z4, Z5, Z0;       \
	VPDPWSSD  Z4, Z6, Z1;       \
	VPDPWSSD  Z4, Z7, Z2;       \
	VPDPWSSD  Z4, Z8, Z3

#define HALVE(z, y) \
	VEXTRACTI64X4 $1, z, Y4; \
	VPADDD        Y4, y, y

// func scanVNNI(q *int16, codes *int8, width, groups int, qscale float32, scale, slack, out *float32)
TEXT ·scanVNNI(SB), NOSPLIT, $0-64
	MOVQ         q+0(FP), SI
	MOVQ         codes+8(FP), R8
	MOVQ         width+16(FP), CX
	MOVQ         groups+24(FP), BX
	VBROADCASTSS qscale+32(FP), X15
	MOVQ         scale+40(FP), R12
	MOVQ         slack+48(FP), R13
	MOVQ         out+56(FP), DI

wideGroup:
	LEAQ   (R8)(CX*1), R9
	LEAQ   (R9)(CX*1), R10
	LEAQ   (R10)(CX*1), R11
	VPXORQ Z0, Z0, Z0
	VPXORQ Z1, Z1, Z1
	VPXORQ Z2, Z2, Z2
	VPXORQ Z3, Z3, Z3
	XORQ   AX, AX

wideStep:
	STEP512
	ADDQ $32, AX
	CMPQ AX, CX
	JLT  wideStep

	HALVE(Z0, Y0)
	HALVE(Z1, Y1)
	HALVE(Z2, Y2)
	HALVE(Z3, Y3)
	FOLD
	VCVTDQ2PS X0, X0
	VMULPS    X15, X0, X0
	VMULPS    (R12), X0, X0
	VADDPS    (R13), X0, X0
	VMOVUPS   X0, (DI)
	ADDQ      $16, R12
	ADDQ      $16, R13
	ADDQ      $16, DI
	LEAQ      (R11)(CX*1), R8
	DECQ      BX
	JNZ       wideGroup
	VZEROUPPER
	RET

#define PREFETCH(off, reg) \
	MOVL       off(DX), reg; \
	IMULQ      CX, reg;      \
	ADDQ       R14, reg;     \
	PREFETCHT0 (reg);        \
	PREFETCHT0 64(reg);      \
	PREFETCHT0 128(reg);     \
	PREFETCHT0 192(reg)

// func gatherAVX2(q *int16, codes *int8, width int, ids *uint32, groups int, out *int32)
// While one group of rows is summed, the next is on its way from memory: a graph walk waits for
// little else.
TEXT ·gatherAVX2(SB), NOSPLIT, $0-48
	MOVQ q+0(FP), SI
	MOVQ codes+8(FP), R14
	MOVQ width+16(FP), CX
	MOVQ ids+24(FP), DX
	MOVQ groups+32(FP), BX
	MOVQ out+40(FP), DI

gatherGroup:
	CMPQ BX, $1
	JE   gatherLast
	PREFETCH(16, R8)
	PREFETCH(20, R9)
	PREFETCH(24, R10)
	PREFETCH(28, R11)

gatherLast:
	MOVL  (DX), R8
	MOVL  4(DX), R9
	MOVL  8(DX), R10
	MOVL  12(DX), R11
	IMULQ CX, R8
	IMULQ CX, R9
	IMULQ CX, R10
	IMULQ CX, R11
	ADDQ  R14, R8
	ADDQ  R14, R9
	ADDQ  R14, R10
	ADDQ  R14, R11
	CLEAR

gatherStep:
	STEP(0)
	STEP(16)
	ADDQ $32, AX
	CMPQ AX, CX
	JLT  gatherStep

	FOLD
	VMOVDQU X0, (DI)
	ADDQ    $16, DX
	ADDQ    $16, DI
	DECQ    BX
	JNZ     gatherGroup
	VZEROUPPER
	RET

// func pairAVX2(a, b *int8, width int) int32
TEXT ·pairAVX2(SB), NOSPLIT, $0-28
	MOVQ  a+0(FP), R8
	MOVQ  b+8(FP), R9
	MOVQ  width+16(FP), CX
	VPXOR Y0, Y0, Y0
	VPXOR Y1, Y1, Y1
	XORQ  AX, AX

pairStep:
	VPMOVSXBW (R8)(AX*1), Y4
	VPMOVSXBW (R9)(AX*1), Y5
	VPMOVSXBW 16(R8)(AX*1), Y6
	VPMOVSXBW 16(R9)(AX*1), Y7
	VPMADDWD  Y4, Y5, Y5
	VPMADDWD  Y6, Y7, Y7
	VPADDD    Y5, Y0, Y0
	VPADDD    Y7, Y1, Y1
	ADDQ      $32, AX
	CMPQ      AX, CX
	JLT       pairStep

	VPADDD       Y1, Y0, Y0
	VEXTRACTI128 $1, Y0, X1
	VPADDD       X1, X0, X0
	VPHADDD      X0, X0, X0
	VPHADDD      X0, X0, X0
	VMOVD        X0, AX
	MOVL         AX, ret+24(FP)
	VZEROUPPER
	RET

// func dotAVX2(a, b *float32, width int) float32
TEXT ·dotAVX2(SB), NOSPLIT, $0-28
	MOVQ   a+0(FP), R8
	MOVQ   b+8(FP), R9
	MOVQ   width+16(FP), CX
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	VXORPS Y2, Y2, Y2
	VXORPS Y3, Y3, Y3
	XORQ   AX, AX

dotStep:
	VMOVUPS     (R8)(AX*4), Y4
	VMOVUPS     32(R8)(AX*4), Y5
	VMOVUPS     64(R8)(AX*4), Y6
	VMOVUPS     96(R8)(AX*4), Y7
	VFMADD231PS (R9)(AX*4), Y4, Y0
	VFMADD231PS 32(R9)(AX*4), Y5, Y1
	VFMADD231PS 64(R9)(AX*4), Y6, Y2
	VFMADD231PS 96(R9)(AX*4), Y7, Y3
	ADDQ        $32, AX
	CMPQ        AX, CX
	JLT         dotStep

	VADDPS       Y1, Y0, Y0
	VADDPS       Y3, Y2, Y2
	VADDPS       Y2, Y0, Y0
	VEXTRACTF128 $1, Y0, X1
	VADDPS       X1, X0, X0
	VHADDPS      X0, X0, X0
	VHADDPS      X0, X0, X0
	VMOVSS       X0, ret+24(FP)
	VZEROUPPER
	RET
